"""Weights files that are too large to be part of the package: they are in the cache or are downloaded into it.

Every file is verified by its sha256. A download is written under a temporary name and renamed after its hash is
verified, so that an incomplete file never has the final name.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import pathlib
import urllib.request

from genmodels.core.files import cache_folder
from genmodels.errors import DataError

CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """A published weights file.

    Attributes:
      name: of the file in the cache.
      url: from which it is downloaded.
      sha256: of its contents.
      size: in bytes.
    """

    name: str
    url: str
    sha256: str
    size: int


def folder() -> pathlib.Path:
    """The folder of downloads, `weights` in `core.files.cache_folder`."""
    return cache_folder() / "weights"


def digest(path: pathlib.Path) -> str:
    """The sha256 of a file, in hexadecimal.

    Raises:
      DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def check(path: pathlib.Path, published: WeightsFile) -> None:
    """Raises DataError if the contents of a file are not those of the published one."""
    found = digest(path)
    if found != published.sha256:
        size = path.stat().st_size
        truncated = f" ({size:,} of {published.size:,} bytes)" if size != published.size else ""
        raise DataError(
            f"{path}: sha256 is {found}, that of {published.name} is {published.sha256}{truncated}; "
            f"replace it by {published.url}"
        )


def find(published: WeightsFile, timeout: float = 20.0) -> pathlib.Path:
    """The path of a published file in the cache; it is downloaded if it is not there.

    Args:
      published: the file to find.
      timeout: seconds without an answer after which the download fails.
    Raises:
      DataError: the file is damaged or cannot be downloaded; the message says which file to put where.
    """
    path = folder() / published.name
    if not path.exists():
        _download(published, path, timeout)
    check(path, published)
    return path


def _download(published: WeightsFile, path: pathlib.Path, timeout: float) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"downloading {published.url} ({published.size / 1e6:.0f} MB)", flush=True)
        received = hashlib.sha256()
        with urllib.request.urlopen(published.url, timeout=timeout) as response, temporary.open("wb") as file:
            while (chunk := response.read(CHUNK_BYTES)) and file.tell() <= published.size:
                file.write(chunk)
                received.update(chunk)
        if received.hexdigest() != published.sha256:
            size = temporary.stat().st_size
            raise OSError(f"the {size:,} of {published.size:,} bytes received have sha256 {received.hexdigest()}")
        temporary.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
        raise DataError(
            f"cannot download {published.name} ({reason}); download {published.url} yourself and put it at {path}, or "
            "name its path"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
