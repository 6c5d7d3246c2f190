"""Entry point: `python -m shareasm` is the same as `shareasm`."""

from shareasm.cli import main

if __name__ == "__main__":
    main()
