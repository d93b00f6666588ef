"""Folders and archives of small images for tests."""

import tarfile
import zipfile

import numpy as np
from PIL import Image


def noise(*shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


def write_folder(root, names, shape=(6, 6, 3)):
    """A PNG of noise for each name; returns them by name."""
    written = {}
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written[name] = noise(*shape, seed=seed)
        Image.fromarray(written[name]).save(path)
    return written


def pack(folder, path, inside=""):
    """The files of a folder in a .tar, .tar.gz, .tar.xz or .zip, below the name `inside`."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, inside + str(file.relative_to(folder)))
    else:
        with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
            for file in reversed(files):
                archive.add(file, inside + str(file.relative_to(folder)))
    return path
