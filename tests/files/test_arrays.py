"""Arrays in numpy's own files."""

import zipfile

import numpy as np
import pytest

from emma_viz.errors import StudyError
from emma_viz.files.arrays import read_npy, read_npz

MEND = "Delete it."


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def npz(path, **arrays):
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def test_arrays_come_back(tmp_path):
    found = read_npz(npz(tmp_path / "a.npz", a=np.arange(3), b=np.ones((2, 2))), error=StudyError, mend=MEND)
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"].shape == (2, 2)
    np.save(tmp_path / "a.npy", np.arange(4))
    for mapped in (False, True):
        assert read_npy(tmp_path / "a.npy", error=StudyError, mend=MEND, mapped=mapped).tolist() == [
            0,
            1,
            2,
            3,
        ]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = npz(tmp_path / "bomb.npz", a=np.zeros(2**22), b=np.arange(2))
    assert bomb.stat().st_size < 2**20
    for limit in ({"limit": 2**20}, {}):
        with pytest.raises(
            StudyError, match=r"bomb\.npz is damaged .*33,554,\d+ bytes, at most [\d,]+ are read"
        ):
            read_npz(bomb, error=StudyError, mend=MEND, **limit)
    found = read_npz(bomb, error=StudyError, mend=MEND, limit=2**20, names=("b",))
    assert found["b"].tolist() == [0, 1]


def test_an_archive_of_any_size_is_read_where_its_arrays_are_not_packed(tmp_path):
    """A file with a hole takes no room: the large array in it is not one, which is seen after its size was let pass."""
    large, size = zipfile.ZipInfo("large.npy"), 3 * 2**30
    with (path := tmp_path / "large.npz").open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("small.npy", "w") as member:
            np.save(member, np.arange(3))
        large.header_offset, large.file_size, large.compress_size, large.CRC = file.tell(), size, size, 0
        file.write(large.FileHeader() + b"\x93NUMPY\x09\x09")
        archive.start_dir = file.seek(large.header_offset + len(large.FileHeader()) + size)
        archive.filelist.append(large)
    found = read_npz(path, error=StudyError, mend=MEND, names=("small",))
    assert found["small"].tolist() == [0, 1, 2]
    with pytest.raises(StudyError, match="format version"):
        read_npz(path, error=StudyError, mend=MEND)


@pytest.mark.parametrize("read", [read_npz, read_npy])
def test_what_is_no_array_is_named_with_what_to_do(tmp_path, read, capsys):
    good = npz(tmp_path / "good", a=np.arange(1000)).read_bytes()
    np.save(tmp_path / "pickled.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("a.npy", zipfile.ZipFile(tmp_path / "good").read("a.npy"))
    other = (tmp_path / "packed").read_bytes()
    files = {
        "empty": b"",
        "otherwise packed": other[:60] + bytes(40) + other[100:],
        "cut": good[: len(good) // 2],
        "bent": good[:60] + bytes(40) + good[100:],
        "text": b"hello",
        "pickled": (tmp_path / "pickled.npy").read_bytes(),
    }
    for name, data in files.items():
        (path := tmp_path / name).write_bytes(data)
        with pytest.raises(StudyError, match=rf"{name} is damaged .*{MEND}"):
            read(path, error=StudyError, mend=MEND)
        if read is read_npy:
            with pytest.raises(StudyError, match=rf"{name} is damaged .*{MEND}"):
                read(path, error=StudyError, mend=MEND, mapped=True)
    with zipfile.ZipFile(tmp_path / "objects", "w") as archive:
        archive.write(tmp_path / "pickled.npy", "a.npy")
    with pytest.raises(StudyError, match="objects is damaged"):
        read(tmp_path / "objects", error=StudyError, mend=MEND)
    assert "executed" not in capsys.readouterr().out
