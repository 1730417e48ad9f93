"""The Hugging Face hub: what is fetched from it and pushed to it, and what it refuses, in one line.

A token comes from the environment (``HF_TOKEN``) or from ``hf auth login``, where huggingface_hub finds it:
nothing here takes, keeps or shows one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nvreg.errors import UserError, explained
from nvreg.text import without_secrets

FILES = ["*.json", "*.py", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""The files of a checkpoint and its tokenizer, all that is fetched; code is run if it is trusted."""

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may"
"""How to get in, but for the verb."""


_OF_ANSWERS = {"DecodingError", "FileMetadataError", "JSONDecodeError", "TooManyRedirects"}
"""Errors of clients at answers that are not a hub's, by their names: such as the page of a proxy."""


def is_hub_name(path: str) -> bool:
    """Whether what is not a directory may be a name on the hub, and is not a path that leads nowhere."""
    return not path.startswith((".", "/", "~")) and path.count("/") <= 1


def fetch(name: str, revision: str | None = None, **options: Any) -> Path:
    """Return a directory of the cache that has the files of a converted checkpoint of the hub.

    Args:
        name: as in ``user/repo``.
        revision: branch, tag or commit; by default the main branch.
        options: options of ``huggingface_hub.snapshot_download``.

    Raises:
        UserError: if they cannot be had.
    """
    from huggingface_hub import snapshot_download

    with on_hub(f"a model {name!r}"):
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES, **options))


def check_push(name: str) -> None:
    """Check, before the work, that somebody is logged in to the hub, and that a repository may have a name.

    Raises:
        UserError: if nobody is, the token is refused, or the hub is out of reach.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    with on_hub(f"to push to {name!r}", "write", "or save the model without a push"):
        validate_repo_id(name)
        HfApi().whoami()


def push(
    directory: Path,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    otherwise: str | None = None,
) -> str:
    """Push the files of a directory to a model repository, which is made where there is none.

    Args:
        directory: what is pushed.
        name: as in ``user/repo``.
        private: whether a new repository is private; by default as the user's or organisation's are.
        revision: the branch, which is made where there is none; by default the main branch.
        otherwise: what can be done without the hub; by default that the directory has all of it.

    Returns:
        The address of the commit.

    Raises:
        UserError: if it cannot be pushed, or is to be private where the repository is public; the directory
            is left as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="nvreg")
    with on_hub(f"to push to {name!r}", "write", otherwise or f"{directory} has all of it"):
        name = api.create_repo(name, private=private, exist_ok=True).repo_id
        if private and api.model_info(name).private is False:
            raise UserError(
                f"expected a private repository {name!r} on the Hugging Face hub, got one that is there and "
                "public; make it private on its page, give another name, or do not ask for a private one"
            )
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        pushed = api.upload_folder(
            repo_id=name,
            folder_path=directory,
            revision=revision,
            commit_message="Upload a model with nvreg",
            ignore_patterns=[".*"],
        )
    return str(pushed.commit_url)


@contextmanager
def on_hub(
    what: str, verb: str = "read", otherwise: str = "or give the path of a local directory"
) -> Iterator[None]:
    """Have whatever the hub, or the way to it, raises be a UserError in one line.

    Args:
        what: what was expected there, as in ``a model 'user/repo'``.
        verb: what a token has to allow.
        otherwise: what can be done without the hub.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # httpx, huggingface_hub and the system raise their own
        if line := explained(error):
            raise UserError(line) from error
        got, mend = reason_of(error, verb)
        raise UserError(f"expected {what} on the Hugging Face hub, got {got}; {mend}, {otherwise}") from error


def reason_of(error: BaseException, verb: str = "read") -> tuple[str, str]:
    """Return what `refusal` does, or else an error's own words and what may be wrong."""
    if known := refusal(error, verb):
        return known
    if answer := next((each for each in _chain(error) if _is_of_answer(each)), None):
        mend = "try again later, and see what answers there: HF_ENDPOINT and proxies decide"
        return f"an answer that cannot be read ({_line(answer)})", mend
    return _line(error), "check the name and the connection"


def refusal(error: BaseException, verb: str = "read") -> tuple[str, str] | None:
    """Return what the hub says, or what is in the way to it, and how to mend that; None for other errors.

    Args:
        error: what was raised; what it was raised from, may say more.
        verb: what a token has to allow.
    """
    from huggingface_hub import constants, errors

    for each in _chain(error):
        status = getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(each, errors.RemoteEntryNotFoundError):
            continue  # a file that a checkpoint need not have
        if isinstance(each, errors.GatedRepoError):
            return f"a gated one ({status})", f"ask for access on its page, then {LOG_IN} {verb} it"
        if isinstance(each, errors.RevisionNotFoundError):
            return f"no such revision ({status})", "check the revision"
        if isinstance(each, errors.RepositoryNotFoundError):
            return f"none, or none for this token ({status})", f"check the name, {LOG_IN} {verb} it"
        if isinstance(each, errors.LocalTokenNotFoundError):
            return "no token", f"{LOG_IN} {verb}"
        if isinstance(each, errors.HFValidationError):
            return f"a name that no repository has ({_line(each)})", "check the name"
        is_away = isinstance(each, errors.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE
        if is_away or isinstance(each, errors.OfflineModeIsEnabled):
            return "no connection, as HF_HUB_OFFLINE is set", "unset it"
        if status in (401, 403):
            refused = "no token, or one that is not known" if status == 401 else "a token that may not"
            return f"{refused} ({status})", f"{LOG_IN} {verb} it"
        if status is not None:
            is_passing = status in (408, 425, 429) or status >= 500
            return f"status {status} ({_line(each)})", "try again later" if is_passing else "check the name"
    connection = next((each for each in _chain(error) if _is_connection(each)), None)
    if connection is not None:
        return f"no connection ({_line(connection)})", "check the connection"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_connection(error: BaseException) -> bool:
    """Whether an error is one of the network: the system's, or that of the client, httpx or its successor."""
    is_client = type(error).__module__.startswith("httpx") and not _is_of_answer(error)
    return is_client or isinstance(error, ConnectionError | TimeoutError)


def _is_of_answer(error: BaseException) -> bool:
    """Whether what answered is at fault, and not the way to it."""
    return type(error).__name__ in _OF_ANSWERS or "Consistency check failed" in str(error)


def _line(error: BaseException) -> str:
    text = " ".join(without_secrets(str(error)).split())
    return (text or type(error).__name__)[:300]
