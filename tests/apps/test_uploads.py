"""Visitors' uploads: whose they are, how much they may be, and what one sentence is said about everything else."""

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from apps.explorer.uploads import NOT_YOURS, Uploads
from emma_viz.errors import ImageError, InputError


@pytest.fixture
def uploads(tmp_path) -> Uploads:
    """Room for ten thousand bytes."""
    return Uploads(tmp_path / "root", quota=10_000, quota_of_all=25_000, kept=3600.0)


def bring(uploads: Uploads, token: str, name="mine.png", content=b"content", place="sha") -> Path:
    """A file as Gradio puts it there, and where it goes."""
    (uploads.root / place).mkdir(exist_ok=True)
    (uploads.root / place / name).write_bytes(content)
    return uploads.adopt(token, uploads.root / place / name)


def test_an_upload_moves_to_its_visitors_folder_and_is_theirs_alone(uploads):
    mine, yours = uploads.visitor(), uploads.visitor()
    path = bring(uploads, mine)
    assert path.read_bytes() == b"content"
    assert path.is_relative_to(uploads.folder(mine))
    assert not (uploads.root / "sha").exists()
    assert uploads.find(mine, str(path)) == path
    assert uploads.may_see(mine, str(path))
    assert not uploads.may_see(yours, str(path))
    assert not uploads.may_see("", str(path))
    with pytest.raises(ImageError, match="bring it again"):
        uploads.find(yours, str(path))


def test_one_sentence_for_all_that_is_not_theirs(uploads, tmp_path):
    mine = uploads.visitor()
    path = bring(uploads, mine)
    picture = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(picture)
    (path.parent / "link.png").symlink_to(picture)
    os.mkfifo(path.parent / "pipe.png")
    theirs = bring(uploads, uploads.visitor(), place="other")
    for wrong in (
        picture, "/etc/passwd", "/etc/shadow", "/", path.parent, path.parent / "gone.png", path.parent / "link.png",
        path.parent / "pipe.png", f"{path.parent}/../../{theirs.parent.parent.name}/other/mine.png", "mine.png", "~/x",
        "../../x", "a\x00b", "/a\x00b", "x" * 100_000, "/" + "x" * 100_000, "\ud800", "http://127.0.0.1/x.png", None, 7,
        ["/etc/passwd"], {"path": "/etc/passwd"}, theirs, uploads.root.parent / "nowhere", "/dev/zero",
    ):  # fmt: skip
        with pytest.raises(ImageError) as refused:
            uploads.find(mine, wrong if not isinstance(wrong, Path) else str(wrong))
        assert str(refused.value) == NOT_YOURS
        assert not uploads.may_see(mine, wrong if not isinstance(wrong, Path) else str(wrong))


def test_what_the_server_hands_out_is_everybodys(uploads):
    handed = uploads.images / "digest" / "coffee.png"
    handed.parent.mkdir()
    Image.new("RGB", (4, 4)).save(handed)
    assert uploads.find(uploads.visitor(), str(handed)) == handed
    assert uploads.may_see("", str(handed))
    half = uploads.root / "tmp12345"
    half.write_bytes(b"half an upload")
    assert not uploads.may_see(uploads.visitor(), str(half))


def test_an_image_is_handed_out_below_the_servers_folder_alone(uploads, tmp_path):
    image, digest = Image.new("RGB", (4, 4)), "0123456789abcdef" * 4
    path = uploads.picture(digest, "../../cup", image, known=lambda: {digest})
    assert path.is_relative_to(uploads.images / digest)
    before = sorted(tmp_path.rglob("*"))
    for wrong in (
        str(tmp_path / "out"),
        "../../out",
        "",
        ".",
        "..",
        digest[:-1],
        digest + "\n",
        digest.upper(),
    ):
        with pytest.raises(InputError, match="64 hexadecimal digits"):
            uploads.picture(wrong, "cup", image, known=lambda: {digest})
    assert sorted(tmp_path.rglob("*")) == before


def test_tokens_are_this_servers(uploads, tmp_path):
    token = uploads.visitor()
    assert uploads.known(token)
    for wrong in ("", "a.b", ".", token + "0", token[:-1], token.upper(), "\u0131.x", token.replace(".", "")):
        assert not uploads.known(wrong)
        with pytest.raises(InputError, match="reload"):
            uploads.folder(wrong)
    assert not Uploads(tmp_path / "other").known(token)


def test_a_visitor_has_a_quota_and_all_have_one(uploads):
    tokens = [uploads.visitor() for _ in range(3)]
    with uploads.room(tokens[0], 8000):
        bring(uploads, tokens[0], content=bytes(8000))
    with pytest.raises(InputError, match="may have"), uploads.room(tokens[0], 3000):
        pass
    with (
        uploads.room(tokens[1], 9000),
        pytest.raises(InputError, match="may have"),
        uploads.room(tokens[1], 2000),
    ):
        pass  # what is on its way counts
    with uploads.room(tokens[1], 9000):
        bring(uploads, tokens[1], content=bytes(9000))
    with pytest.raises(InputError, match="try later"), uploads.room(tokens[2], 9000):
        pass
    with uploads.room(tokens[2], 7000):
        pass


def test_uploads_go_after_some_hours_and_make_room(uploads):
    token = uploads.visitor()
    path = bring(uploads, token, content=bytes(9000))
    half = uploads.root / "tmp12345"
    half.write_bytes(bytes(10))
    ago = time.time() - 7200
    for old in (path, path.parent, path.parent.parent, half):
        os.utime(old, (ago, ago))
    with uploads.room(token, 9000):
        assert not path.exists()
        assert not half.exists()


def test_what_did_not_arrive_is_not_adopted(uploads, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    token = uploads.visitor()
    (uploads.root / "sha").mkdir()
    (uploads.root / "sha" / "link").symlink_to(tmp_path / "secret.txt")
    for wrong in (
        tmp_path / "secret.txt",
        uploads.root / "sha" / "link",
        uploads.root / "gone",
        uploads.root,
    ):
        with pytest.raises(ImageError):
            uploads.adopt(token, wrong)
    assert (tmp_path / "secret.txt").read_text() == "secret"
