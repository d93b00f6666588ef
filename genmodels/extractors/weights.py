"""Weights that are too large to ship: a path that the user gives, a folder they lie in, or a download.

A file is what it should be only by its sha256. A download goes to another name first and takes its own once the hash is
right, so a broken one is never left in place.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import pathlib
import urllib.request

from genmodels.errors import DataError

CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """A published file.

    Attributes:
      name: that it has in the folder.
      url: where it can be had.
    """

    name: str
    url: str
    sha256: str
    size: int


def folder() -> pathlib.Path:
    """Where downloads lie: weights in $GENMODELS_CACHE (default: genmodels in $XDG_CACHE_HOME or ~/.cache)."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("GENMODELS_CACHE") or pathlib.Path(home) / "genmodels") / "weights"


def digest(path: pathlib.Path) -> str:
    """sha256 of a file.

    Raises:
      DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def check(path: pathlib.Path, wanted: WeightsFile) -> None:
    """Raises DataError when the file is not the published one."""
    found = digest(path)
    if found != wanted.sha256:
        size = path.stat().st_size
        cut = f" ({size:,} of {wanted.size:,} bytes)" if size != wanted.size else ""
        raise DataError(f"{path}: sha256 is {found}, that of {wanted.name} is {wanted.sha256}{cut}; get it anew")


def find(wanted: WeightsFile, timeout: float = 20.0) -> pathlib.Path:
    """The path of the file in the folder, downloaded if it is not there.

    Raises:
      DataError: it is damaged, or cannot be downloaded; says what to put where.
    """
    path = folder() / wanted.name
    if not path.exists():
        _download(wanted, path, timeout)
    check(path, wanted)
    return path


def _download(wanted: WeightsFile, path: pathlib.Path, timeout: float) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"downloading {wanted.url} ({wanted.size / 1e6:.0f} MB)", flush=True)
        total = hashlib.sha256()
        with urllib.request.urlopen(wanted.url, timeout=timeout) as answer, temporary.open("wb") as file:
            while (chunk := answer.read(CHUNK)) and file.tell() <= wanted.size:
                file.write(chunk)
                total.update(chunk)
        if total.hexdigest() != wanted.sha256:
            size = temporary.stat().st_size
            raise OSError(f"what came, {size:,} of {wanted.size:,} bytes, has sha256 {total.hexdigest()}")
        temporary.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
        raise DataError(
            f"cannot download {wanted.name} ({reason}); put it from {wanted.url} at {path}, or name its path"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
