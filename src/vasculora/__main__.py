"""`python -m vasculora`: the same program as `vasculora`."""

from vasculora.cli.app import main

if __name__ == "__main__":
    main()
