"""`python -m studio` is the command rs-studio, for launchers that start modules."""

from studio.cli import entry

if __name__ == "__main__":
    entry()
