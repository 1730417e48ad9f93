"""Files that a kill leaves old or new, never torn, and output directories that belong to one run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from nvreg.errors import DamagedError, NvregWarning, UserError, explained

MANIFEST = "manifest.json"
"""The file that says whose an output directory is."""

NAME_BYTES = 255
"""The longest name of a file that systems take."""

ASIDE = ".*.part"
"""What everything is called that is not yet written whole."""

_ASIDE = re.compile(r"(?P<name>\..*)\.(?P<process>\d+)\.part", re.DOTALL)
"""The same with the number of the process that writes it."""

LOCK = ".lock"
"""The file that a process holds open, and locked, while it writes to an output directory."""

HOLDER = ".holder.json"
"""The file that says which process that is, for those who only look."""


WRITTEN = ".nvreg.json"
"""The file that says which files of a directory nvreg wrote, where no manifest says so."""

PRIOR_FORMAT = "nvreg-prior-1"
"""What a prior's file calls its format, at its beginning."""

EVALUATION_FORMAT = "nvreg-evaluation"
"""The mark of what ``nvreg evaluate`` writes."""

FISHER_FORMAT = "nvreg-fisher-1"
"""What a file of Fisher scores calls its format, at its beginning."""

DIGESTS = "digests.json"
"""The file that has the digests of others of its directory, by which damage is noticed."""

WEIGHT_FILES = "*.safetensors"
"""The files of a checkpoint that have its weights; what else it holds, its user may change."""

MARK_BYTES = 4096
"""The beginning of a file, in which `check_file` looks for the mark of its kind."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, flush it to disk, and rename it into place.

    Raises:
        UserError: if something other than a file has the name.
        OSError: if the place cannot be written to; it names ``path``.
    """
    check_regular(path)
    aside = _aside(path)
    _remove_leftovers(path.parent.glob(ASIDE), of=aside)
    with naming(path):
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` in UTF-8, complete or not at all."""
    write_bytes(path, content.encode())


def write_digests(directory: Path, pattern: str = "*") -> None:
    """Write the digests of the files of a directory that match a pattern, once all in it are complete."""
    _sync(directory.glob("*"))
    files = sorted(path for path in directory.glob(pattern) if path.is_file() and path.name != DIGESTS)
    digests = {path.name: _digest_of(path) for path in files}
    write_text(directory / DIGESTS, json.dumps(digests, indent=1) + "\n")


def changed_files(directory: Path) -> list[str]:
    """Return the names of the files that are gone, or not as `write_digests` found them.

    There are none where a directory has no digests: something else, or an earlier version, wrote it.
    """
    try:
        digests = json.loads((directory / DIGESTS).read_text(encoding="utf-8"))
        return [
            name
            for name, digest in digests.items()
            if not (directory / name).is_file() or _digest_of(directory / name) != digest
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, RecursionError, AttributeError):  # is no JSON, or no mapping
        return [DIGESTS]


def check_digests(directory: Path) -> None:
    """Check that the files of a directory are those that `write_digests` found.

    Raises:
        UserError: if something in the directory is a device or pipe.
        DamagedError: if one is gone or another.
    """
    check_no_pipes(directory.glob("*"))
    if changed := changed_files(directory):
        raise DamagedError(
            f"expected {directory / changed[0]} as nvreg wrote it, got another or none; make it again, or "
            f"remove {DIGESTS} beside it if the change is meant"
        )


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_place(path: Path) -> None:
    """Check, before the work, that something can be written at a path, which need not be there.

    Raises:
        UserError: if the nearest thing above it that exists is no directory, or may not be written to.
    """
    above = path.absolute().parents
    there = path if path.is_dir() else next(each for each in above if os.path.lexists(each))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        what = "which is read-only, or another user's" if there.is_dir() else "which is no directory"
        raise UserError(
            f"expected a place that can be written to, got {path} in {there}, {what}; choose another place"
        )


def check_regular(path: Path) -> None:
    """Check that nothing has a name, or a file that is neither a link nor a device.

    A file that is renamed into place would take a link's place, and that of what it leads to.

    Raises:
        UserError: if something else has it.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):  # what writes says what is wrong with the place
        return
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a directory"}
        kind = kinds.get(stat.S_IFMT(mode), "a device or pipe")
        raise UserError(f"expected nothing or a file to replace at {path}, got {kind}; choose another name")


def check_no_pipes(paths: Iterable[Path]) -> None:
    """Check, before they are read, that none of some paths is a pipe or a device, for which a reader waits.

    Raises:
        UserError: if one is.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError:  # what reads it says what is wrong with it
            continue
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise UserError(
                f"expected a file at {path}, got a device or pipe; remove it, or name another place"
            )


def check_file(path: Path, mark: str, *, force: bool = False) -> None:
    """Check, before the work, that a command may write a file: there is none, or one that nvreg wrote.

    Args:
        path: the file.
        mark: what every file of its kind has among its first `MARK_BYTES` bytes.
        force: a file that nvreg did not write may be replaced, too.

    Raises:
        UserError: if there is another file, or something that is no file, or no directory to write to.
    """
    check_place(path)
    if not path.parent.is_dir():
        raise UserError(
            f"expected a file to write in a directory that exists, got {path}; make the directory first, or "
            "choose another place"
        )
    check_regular(path)
    if force or not path.exists():
        return
    with path.open("rb") as file:
        if mark.encode() not in file.read(MARK_BYTES):
            raise UserError(_foreign(path))


def check_files(directory: Path, names: Iterable[str], *, force: bool = False) -> list[str]:
    """Check, before the work, that a command may write files to a directory of its own.

    Args:
        directory: is absent or empty, or nvreg has written to it before.
        names: the names of the files.
        force: the directory may hold anything, and files that nvreg did not write may be replaced.

    Returns:
        The names of the files there that nvreg has written.

    Raises:
        UserError: if it is not a directory, or holds what nvreg did not write.
    """
    check_place(directory)
    if not directory.is_dir():
        check_regular(directory)
        if directory.exists():
            raise UserError(f"expected a directory to write to, got a file: {directory}; choose another name")
        return []
    check_no_pipes([directory / WRITTEN])
    try:
        written: list[str] = list(json.loads((directory / WRITTEN).read_text(encoding="utf-8"))["files"])
    except FileNotFoundError:
        written = []
        if not force and _visible(directory):
            raise UserError(
                f"expected a new or empty directory, or one that nvreg wrote, got {directory} with other "
                "files; choose another name, or add --force"
            ) from None
    except (ValueError, RecursionError, KeyError, TypeError):
        raise UserError(
            f"expected {directory / WRITTEN} as nvreg wrote it, got another; remove it, and add --force"
        ) from None
    for path in (directory / name for name in names):
        check_regular(path)
        if not force and path.name not in written and path.exists():
            raise UserError(_foreign(path))
    return written


def claim(directory: Path, names: Iterable[str], *, force: bool = False) -> None:
    """Make a directory for files that are written to it next, and note there that they are nvreg's.

    Arguments and errors are those of `check_files`.
    """
    written = check_files(directory, names := list(names), force=force)
    directory.mkdir(parents=True, exist_ok=True)
    noted = {"files": sorted({*written, *names})}
    write_text(directory / WRITTEN, json.dumps(noted, indent=1) + "\n")


def _visible(directory: Path) -> bool:
    return any(not path.name.startswith(".") for path in directory.iterdir())


def _foreign(path: Path) -> str:
    return (
        f"expected nothing or a file that nvreg wrote at {path}, got another file; choose another name, "
        "or add --force to replace it"
    )


@contextmanager
def whole_directory(out: Path, *, replacing: bool = False) -> Iterator[Path]:
    """Yield a directory to fill, which takes the name of one that is new or empty when all is written.

    Args:
        out: the directory.
        replacing: it may be one that nvreg wrote, whose place the new one takes.

    Raises:
        UserError: if it cannot be written.
    """
    aside, before = _aside(out), _aside(out.with_name(f"{out.name}.before"))
    for each in (aside, before):
        _remove_leftovers(out.parent.glob(ASIDE), of=each)
    try:
        aside.mkdir(parents=True)
        yield aside
        _sync(aside.rglob("*"))
        if replacing and out.is_dir():
            out.replace(before)
        elif out.is_dir():
            out.rmdir()  # it is empty
        aside.replace(out)
    except Exception as error:
        if line := explained(error, out):
            raise UserError(line) from error
        raise
    finally:
        for each in (aside, before):
            shutil.rmtree(each, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have the errors of the system that arise in here name a path, as a full disk's do not by themselves."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _aside(path: Path) -> Path:
    """Return where this process writes what is to get a name, which may be as long as names can be."""
    end = f".{os.getpid()}.part"
    name = os.fsencode(path.name)[: NAME_BYTES - len(end) - 1].decode(errors="ignore")
    return path.with_name(f".{name}{end}")


def _sync(paths: Iterable[Path]) -> None:
    """Have files be on disk, whatever wrote them, before anything says that they are complete."""
    for path in paths:
        if path.is_file():
            file = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows has to write
            try:
                os.fsync(file)
            finally:
                os.close(file)


def _remove_leftovers(paths: Iterable[Path], of: Path | None = None) -> None:
    """Remove those of some files and directories that a process that is no more was writing aside.

    Args:
        paths: may be any.
        of: what this process writes aside, if only what others would have given the same name is meant.
    """
    wanted = of and _ASIDE.fullmatch(of.name)
    for path in paths:
        found = _ASIDE.fullmatch(path.name)
        if found is None or (wanted and wanted["name"] != found["name"]):
            continue
        if psutil.pid_exists(int(found["process"])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def check_output(
    output: Path,
    ours: Mapping[str, Any],
    theirs_of: Callable[[dict[str, Any]], Mapping[str, Any]],
    is_ours: Callable[[], bool] = lambda: False,
) -> None:
    """Check that an output directory is new, or already this run's.

    Args:
        output: the directory; its `MANIFEST` says whose it is.
        ours: what makes the run another one.
        theirs_of: the same of a manifest.
        is_ours: whether a directory whose manifest is lost or damaged is this run's by what else it holds.

    Raises:
        UserError: if it holds a run that differs in that, or something else.
    """
    elsewhere = "choose another with --output"
    check_place(output)
    check_no_pipes([*output.glob("*"), *output.glob("*/*")])
    try:
        theirs = theirs_of(json.loads((output / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        if output.is_dir() and _visible(output) and not is_ours():
            raise UserError(f"expected a new or empty output directory, got {output}; {elsewhere}") from None
        return
    except OSError as error:
        raise UserError(
            f"expected an output directory, got {output} ({error.strerror}); {elsewhere}"
        ) from error
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:  # is another file
        if is_ours():
            return
        raise UserError(
            f"expected an output directory of this experiment, got {output} with another kind of "
            f"{MANIFEST}; {elsewhere}"
        ) from error
    if differing := list(differences(theirs, ours)):
        raise UserError(
            f"expected an output directory of this experiment, got {output} of one that differs in "
            f"{', '.join(differing)}; {elsewhere}"
        )


@contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """Hold an output directory for one process; the lock goes with the process, however it ends.

    What a process that was killed had not finished writing is removed.

    Where the file system has no locks, the user is told so, and no other process is noticed.

    Raises:
        UserError: if another process holds it, or something in it is a device or pipe.
    """
    check_regular(lock := output / LOCK)
    held: AbstractContextManager[Any]
    try:
        with naming(lock):
            held = FileLock(lock).acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"expected a directory that no other run is writing, got {output}; "
            "wait for that run or choose another with --output"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        warnings.warn(
            f"the file system of {output} has no locks ({error.strerror}): start no second run there",
            NvregWarning,
            stacklevel=2,
        )
        held = nullcontext()
    with held:
        check_no_pipes(output.rglob("*"))
        _remove_leftovers(output.rglob(ASIDE))
        note = output / HOLDER
        with suppress(OSError):  # what is wrong with the directory is said when something is kept
            write_text(note, json.dumps({"machine": platform.node(), "process": os.getpid()}) + "\n")
        try:
            yield
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)


def is_held(output: Path) -> bool | None:
    """Return whether a process writes to an output directory, without asking for its lock.

    Returns:
        None where a process of another machine was writing to it, of which nothing more can be known.
    """
    note = output / HOLDER
    if not note.is_file():  # for a pipe a reader would wait
        return False
    try:
        written, said = note.stat().st_mtime, json.loads(note.read_text(encoding="utf-8"))
        if said["machine"] != platform.node():
            return None
        # another process may have got its number since; clocks of shared disks differ by seconds
        return psutil.Process(int(said["process"])).create_time() <= written + 60
    except (OSError, ValueError, RecursionError, LookupError, TypeError, psutil.Error):
        return False


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys, in their order, in which two nested mappings differ."""
    for key in sorted(theirs.keys() | ours.keys()):
        their, our = theirs.get(key), ours.get(key)
        if isinstance(their, dict) and isinstance(our, dict):
            yield from differences(their, our, f"{prefix}{key}.")
        elif their != our:
            yield prefix + key
