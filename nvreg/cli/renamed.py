"""What was called otherwise in an earlier version: it goes on working, and says its new name."""

from nvreg.cli.options import say


def today_s(arguments: list[str]) -> list[str]:
    """Return the arguments of today's command for those of an earlier one, which is said on standard error.

    Args:
        arguments: a command and what follows it.
    """
    if arguments[:1] != ["convert"]:
        return arguments
    if "--list" in arguments:
        return _called("nvreg convert --list", "nvreg architectures", ["architectures"])
    for place, argument in enumerate(arguments):
        option, given, value = argument.partition("=")
        if option == "--from-results":
            run = [value] if given else arguments[place + 1 : place + 2]
            others = arguments[1:place] + arguments[place + (1 if given else 2) :]
            return _called(
                "nvreg convert OUT --from-results RUN", "nvreg export RUN OUT", ["export", *run, *others]
            )
    return arguments


def _called(before: str, now: str, arguments: list[str]) -> list[str]:
    say(f"nvreg: {before} is now {now}", err=True)
    return arguments
