"""Data sets: pictures with captions, classes and splits, brought in from many forms into one."""
