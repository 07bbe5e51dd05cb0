"""``python -m asma`` is the command ``asma``."""

from asma.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
