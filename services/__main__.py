"""The command line `byok`, also `python -m services`."""

import gc

_INTERRUPTED = 130
# Loading makes some hundred thousand objects, which all stay; to look through them again and again is a tenth of it.
_MADE_BEFORE_A_SWEEP = 50_000


def main() -> None:
    """The entry point of the console script."""
    gc.set_threshold(_MADE_BEFORE_A_SWEEP)
    try:
        # Loading takes a moment, and Ctrl-C in it ends the command as in any other.
        from services.cli.commands import app

        app()
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


if __name__ == "__main__":
    main()
