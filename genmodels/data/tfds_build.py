"""Builds a data set with TensorFlow Datasets, and works around two of its faults.

TFDS waits minutes for a host that does not answer, and it confuses extracted files of different data sets.
"""

import pathlib
import shutil
import socket
import tempfile
import urllib.parse
import urllib.request

from genmodels.errors import ConfigError, DataError

CONNECT_TIMEOUT_S = 10.0


def check_network(name: str, urls: list[str]) -> None:
    """Opens a connection to the host of the first URL, because TFDS itself would wait for minutes.

    Behind a proxy nothing is checked.

    Raises:
      DataError: the host does not answer within CONNECT_TIMEOUT_S.
    """
    hosts = [urllib.parse.urlsplit(url) for url in urls if url.startswith(("http://", "https://"))]
    if not hosts or urllib.request.getproxies():
        return
    host, port = hosts[0].hostname, hosts[0].port or (443 if hosts[0].scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise DataError(
            f"tfds:{name}: {host} cannot be reached ({error}); download the original files elsewhere and give their "
            f"folder as --manual_dir"
        ) from error


def prepare(name: str, folder: pathlib.Path, manual: pathlib.Path | None) -> None:
    """Builds NAME[/CONFIG] below `folder` as array_record, from the files in `manual` or from the network.

    TFDS recognises extracted files by their names alone and would reuse those of another data set; it therefore gets a
    new folder for them each time.

    Raises:
      ConfigError: TFDS has no such data set.
      DataError: TensorFlow is not installed, the network does not answer, or TFDS cannot build from these files.
    """
    try:
        import tensorflow  # noqa: F401  (without it TFDS fails later, in many lines)
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"{error}; preparing needs pip install -c constraints.txt -e '.[tfds-prepare]'") from error
    try:
        builder = tfds.builder(name, data_dir=str(folder), file_format="array_record", try_gcs=False)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ConfigError(f"tfds:{name}: {str(error).splitlines()[0]}") from error
    if manual is None:
        check_network(name, sorted(builder.url_infos))
    folder.mkdir(parents=True, exist_ok=True)
    extracted = tempfile.mkdtemp(prefix=".extracted-", dir=folder)
    config = tfds.download.DownloadConfig(manual_dir=manual and str(manual), extract_dir=extracted)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # builders have hundreds of authors and raise anything
        raise DataError(f"tfds:{name}: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(extracted, ignore_errors=True)
