"""A pack gives back what was put in, or says that it is damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.shared.pack import Pack, PackError, write_pack

META = {"size": [90, 160], "box": [3, 4, 60, 80], "note": "äöü"}


def write(path, stills=((2, b"two"), (5, b""), (9, b"nine" * 50))):
    return write_pack(path, META, stills)


def read_all(path):
    with Pack(path) as pack:
        return {int(frame): pack.still(int(frame)) for frame in pack.frames}


@examples(50)
@given(st.dictionaries(st.integers(0, 2**31), st.binary(max_size=200), max_size=12))
def test_stills_come_back(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("packs") / "folder" / "one.pack"
    write(path, sorted(content.items()))
    assert read_all(path) == content
    with Pack(path) as pack:
        assert pack.size == (90, 160) and pack.box == (3, 4, 60, 80)
        assert pack.has(list(content)) and not pack.has([2**31 + 1])


def test_the_same_content_gives_the_same_bytes(tmp_path):
    write(tmp_path / "a.pack"), write(tmp_path / "b.pack")
    assert (tmp_path / "a.pack").read_bytes() == (tmp_path / "b.pack").read_bytes()


def test_no_flipped_byte_goes_unseen(tmp_path):
    path = tmp_path / "one.pack"
    write(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        with pytest.raises(PackError):
            read_all(path)


def test_no_cut_goes_unseen(tmp_path):
    path = tmp_path / "one.pack"
    write(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(PackError):
            read_all(path)


def test_a_failed_write_leaves_the_old_pack(tmp_path):
    path = tmp_path / "one.pack"
    write(path)

    def fails():
        yield 1, b"one"
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write(path, fails())
    assert [p.name for p in tmp_path.iterdir()] == ["one.pack"]
    assert 2 in read_all(path)


def test_an_absent_frame_is_named(tmp_path):
    write(tmp_path / "one.pack")
    with Pack(tmp_path / "one.pack") as pack, pytest.raises(PackError, match="no frame 3"):
        pack.still(3)
