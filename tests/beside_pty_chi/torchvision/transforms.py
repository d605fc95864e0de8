"""The class of which Pty-Chi makes a blur, where one is asked for; no test does."""


class GaussianBlur:
    """Blur that nothing is done with."""
