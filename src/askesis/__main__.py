"""``python -m askesis`` is the command ``askesis``."""

from askesis.cli import main

if __name__ == "__main__":
    main()
