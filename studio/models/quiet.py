"""The libraries' own notices and progress bars, which would tear the screen and the command line's."""

from functools import cache


@cache
def quiet_libraries() -> None:
    """Let diffusers and transformers say nothing but errors, and draw no bars of their own."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
