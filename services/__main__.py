"""The command line `byok`, also `python -m services`."""

_INTERRUPTED = 130


def main() -> None:
    """The entry point of the console script."""
    try:
        # Loading takes a moment, and Ctrl-C in it ends the command as in any other.
        from services.cli.commands import app

        app()
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


if __name__ == "__main__":
    main()
