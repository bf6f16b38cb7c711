"""pcan: carries a written training plan out on MMAction2."""

#: The one place of pcan's version: the build reads it here, and so does an editable install.
__version__ = "0.2.0"
