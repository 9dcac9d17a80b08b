"""Tests of writing files whole and of checking paths before."""

import os

import pytest

from vmonf.files import check_ending, check_output, written_whole


def write(path, content=b"new", error=None):
    with written_whole(path) as stream:
        stream.write(content)
        if error is not None:
            raise error


@pytest.fixture
def path(tmp_path):
    """A file with old content, the only one in its folder."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(path, error):
    with pytest.raises(error):
        write(path, b"half", error)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_last_step_leaves_the_old_file_and_no_other(path, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["file"]


def test_a_file_is_replaced_or_created(path):
    write(path)
    assert path.read_bytes() == b"new"
    # The temporary name must not be longer than the longest name that file systems allow.
    write(path.with_name("n" * 255))
    assert sorted(len(name) for name in os.listdir(path.parent)) == [4, 255]


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_a_link(path, exists):
    link = path.with_name("link")
    link.symlink_to(path)
    if not exists:
        path.unlink()
    write(link)
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_the_umask(path, mask):
    before = os.umask(mask)
    try:
        write(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_missing_folder_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "none" / "file")


def test_endings():
    assert check_ending("a.b.PNG", (".png", ".pdf", ".svg")) == ".png"
    with pytest.raises(ValueError, match=r"'a.bmp' has the ending '.bmp', .*\.png, \.pdf or \.svg"):
        check_ending("a.bmp", (".png", ".pdf", ".svg"))
    with pytest.raises(ValueError, match="'png' has no ending"):
        check_ending("png", (".png", ".pdf"))


def test_places_that_can_be_written_to(path, monkeypatch):
    check_output(path)
    check_output(path.with_name("a.csv"), (".csv", ".tsv"))
    monkeypatch.chdir(path.parent)
    check_output("a.csv")
    assert os.listdir(path.parent) == ["file"]


def test_places_that_cannot_be_written_to(path, monkeypatch):
    folder = path.parent
    for place, fault in (
        (folder, f"'{folder}' is a folder: add the name of a file to write in it."),
        (folder / "none" / "a", f"The folder '{folder / 'none'}' does not exist: create it first."),
        (path / "a", f"'{path}' is not a folder: choose another place to write to."),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is held
            check_output(place)
        assert str(caught.value) == fault
    with pytest.raises(ValueError, match="has no ending"):
        check_output(path, (".csv", ".tsv"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="may not be written to: choose another folder"):
        check_output(path)
    assert os.listdir(folder) == ["file"]


def test_inputs_are_not_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    names = [tmp_path / "rows.csv", tmp_path / "data" / "a.parquet", tmp_path / "new.csv"]
    for name in names[:2]:
        name.touch()
    (tmp_path / "link.csv").symlink_to(names[0])
    for path, source in (
        (names[0], names[0]),
        (tmp_path / "link.csv", names[0]),
        (names[1], tmp_path / "data"),
        (names[1], f"{tmp_path}/*/*.parquet"),
    ):
        with pytest.raises(ValueError, match="is read, and would be replaced: choose another name"):
            check_output(path, inputs=[source])
    for source in (names[0], tmp_path / "data", f"{tmp_path}/data/*", tmp_path / "missing"):
        check_output(names[2], inputs=[source])
    check_output(names[0], inputs=[tmp_path / "data", "s3://bucket/rows.csv"])
