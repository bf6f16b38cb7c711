"""Checkpoint files: what is read, and what is refused without running it."""

import argparse
import collections
import datetime
import gzip
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit warns once when mmengine is imported
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer, MessageHub

    from pipeline.train.checkpoint_file import (
        CheckpointError,
        UnsafeCheckpoint,
        read_checkpoint,
        state_dict_of,
    )


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class ReachesThroughGetattr:
    def __reduce__(self):
        return getattr, (HistoryBuffer, "register_statistics")


@pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path, form):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"state_dict": {"w": torch.ones(1)}, "meta": Payload(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content["meta"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(UnsafeCheckpoint, match=r"would run \w+\.system"):
        read_checkpoint(path)
    assert not marker.exists()


class NamesAType:
    """Makes a type of NumPy by its class, which could then be given a state of its own."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return getattr(np.dtypes, self.name), ()


@pytest.mark.parametrize("name", ["StrDType", "VoidDType", "BytesDType", "ObjectDType"])
def test_a_type_that_could_take_bytes_for_pointers_is_refused(tmp_path, name):
    torch.save({"state_dict": {}, "meta": NamesAType(name)}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeCheckpoint, match=f"would run numpy.dtypes.{name}"):
        read_checkpoint(tmp_path / "evil.pth")


def test_a_plain_type_named_by_its_class_is_read(tmp_path):
    torch.save(
        {"state_dict": {"w": torch.ones(1)}, "meta": {"type": NamesAType("Float64DType")}},
        tmp_path / "sound.pth",
    )
    assert read_checkpoint(tmp_path / "sound.pth") is not None


def test_the_stand_in_for_getattr_reaches_nothing_else(tmp_path):
    torch.save({"state_dict": {}, "meta": ReachesThroughGetattr()}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeCheckpoint, match="getattr of register_statistics"):
        read_checkpoint(tmp_path / "evil.pth")


def test_a_full_checkpoint_of_mmengine_is_read(tmp_path):
    hub = MessageHub.get_instance("test_full_checkpoint")
    hub.update_scalar("train/loss", torch.tensor(1.5))
    hub.update_scalar("train/lr", np.float64(0.1))
    hub.update_info("epoch", 3)
    content = {
        "meta": {"epoch": 3, "cfg": "x = 1", "count": np.int64(4)},
        "state_dict": {"w": torch.ones(2)},
        "message_hub": hub.state_dict(),
    }
    torch.save(content, tmp_path / "full.pth")
    read = read_checkpoint(tmp_path / "full.pth")
    assert read["message_hub"]["log_scalars"]["train/loss"].mean() == 1.5
    assert read["meta"]["count"] == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"just text", "is text, not a checkpoint"),
        (b"\x01\xfe binary", "neither a torch archive nor a pickle"),
        (b"\xef\xbb\xbf<html><head>", "web page"),
        (b"<Error><Code>AccessDenied</Code></Error>", "web page"),
        (b'{"message": "Not Found"}', 'it starts with \'{"message": "Not Found"}\''),
        (b"404: Not Found", "If that is a server's message, download the file again"),
        (b"\0" * 600, "nothing but zeros"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(90), "an ONNX model"),
        (b"GGUF\x03" + bytes(90), "GGUF"),
        (b"\x28\xb5\x2f\xfd" + bytes(90), "a compressed archive"),
        (b"\0\0\0\x20ftypisom" + bytes(90), "a video"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, content, sentence):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        read_checkpoint(path)


@pytest.mark.parametrize("archive", [True, False])
def test_a_truncated_checkpoint_is_named(tmp_path, archive):
    path = tmp_path / "weights.pth"
    content = {"state_dict": {"w": torch.ones(500)}}
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CheckpointError, match="damaged or cut short at 700 bytes"):
        read_checkpoint(path)


def tar(path, names, mode="w"):
    """Write an archive of small members."""
    with tarfile.open(path, mode) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"\x80\x02}."))


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def exported(path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, str(path))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda f: tar(f, ["sys_info", "pickle", "tensors"]), "oldest format"),
        (lambda f: tar(f, ["model/best.pth"]), "first in it: model/best.pth"),
        (lambda f: tar(f, ["model/best.pth"], "w:gz"), "unpack it: tar xzf FILE"),
        (lambda f: zipped(f, "best.pth"), "a zip archive that holds best.pth"),
        (lambda f: zipped(f, "config.json", "model.weights.h5"), "a model of Keras"),
        (exported, "torch.export"),
        (lambda f: torch.save(torch.nn.Linear(1, 1), f), r"save model.state_dict\(\)"),
        (lambda f: torch.save({"optimizer": {}}, f), "it has: optimizer"),
    ],
)
def test_what_others_save_is_named_for_what_it_is(tmp_path, make, sentence):
    make(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=sentence):
        state_dict_of(read_checkpoint(tmp_path / "w.pth"), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["latest", "global_step5/mp_rank_00_model_states.pt"], "zero_to_fp32.py"),
        ([".metadata", "__0_0.distcp"], "dcp_to_torch"),
        (["config.json", "model.safetensors"], "give a file in it, such as .*model.safetensors"),
        (["saved_model.pb", "variables/variables.index"], "SavedModel of TensorFlow"),
        (["data.pkl", "version", "data/0"], "an unpacked checkpoint"),
        ([], "a folder without a checkpoint"),
    ],
)
def test_a_folder_in_the_place_of_a_checkpoint_is_named(tmp_path, files, sentence):
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    with pytest.raises(CheckpointError, match=sentence):
        read_checkpoint(folder)


@pytest.mark.parametrize("under", ["model", "model_state_dict", "module", "net", "state_dict"])
def test_weights_are_found_where_other_frameworks_put_them(tmp_path, under):
    beside = {"epoch": 3, "pytorch-lightning_version": "2.1", "hyper_parameters": {"lr": 1.0}}
    torch.save({under: {"w": torch.ones(2)}, **beside}, tmp_path / "w.ckpt")
    assert set(state_dict_of(read_checkpoint(tmp_path / "w.ckpt"))) == {"w"}


def test_a_pickle_that_is_text_is_read_as_one(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"epoch": 3}, protocol=0))
    assert read_checkpoint(tmp_path / "w.pkl") == {"epoch": 3}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        read_checkpoint(tmp_path / "nothing.pth")


def test_a_bare_state_dict_and_a_wrapped_one_are_found():
    bare = {"a.weight": torch.ones(1)}
    assert set(state_dict_of(bare)) == {"a.weight"}
    wrapped = {"state_dict": {"module.a.weight": torch.ones(1)}}
    assert set(state_dict_of(wrapped)) == {"a.weight"}
    with pytest.raises(CheckpointError, match="no model weights"):
        state_dict_of({"meta": {}})


@pytest.mark.parametrize("archive", [True, False])
def test_tensors_come_back_as_they_were_saved(tmp_path, archive):
    """Views of one storage, every dtype, empty and strided tensors, parameters."""
    base = torch.arange(24.0)
    saved = {
        "view": base[4:16].reshape(3, 4).t(),
        "same": base,
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(7),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "float16": torch.ones(3, dtype=torch.float16),
        **{
            str(kind).split(".")[1]: torch.tensor([1, 0, 1]).to(kind)
            for kind in (torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64)
        },
    }
    torch.save({"state_dict": saved}, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    read = read_checkpoint(tmp_path / "w.pth")["state_dict"]
    assert read.keys() == saved.keys()
    for name, value in saved.items():
        assert read[name].dtype == value.dtype and read[name].shape == value.shape
        assert torch.equal(read[name], value), name
    assert read["view"].untyped_storage().data_ptr() == read["same"].untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 3), "uint8"),
        np.str_("epoch_3.pth"),
        np.array(["a", "bc"]),
        np.array([None, "x"], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.datetime64("2026-01-01"),
        {"classes": ("a", "b"), "seen": {1, 2}},
        collections.defaultdict(list, a=[1]),
        argparse.Namespace(lr=0.1, names=["x"]),
        PurePosixPath("work_dirs/pcan"),
        ConfigDict(model=dict(type="PCAN")),
        datetime.datetime(2026, 1, 1),
        torch.float16,
        torch.device("cpu"),
        torch.Size([1, 2]),
        range(3),
        bytearray(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_frameworks_put_beside_the_weights_is_read(tmp_path, value):
    torch.save({"state_dict": {"w": torch.ones(2)}, "meta": {"x": value}}, tmp_path / "w.pth")
    content = read_checkpoint(tmp_path / "w.pth")
    assert content["state_dict"]["w"].tolist() == [1, 1]
    if isinstance(value, np.ndarray):
        assert np.array_equal(content["meta"]["x"], value)


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        (torch.ones(2, 2).to_sparse(), "sparse weights; save weight.to_dense"),
        (torch.empty(2, device="meta"), "weights without values"),
    ],
)
def test_weights_in_a_form_that_no_training_starts_from_are_named(tmp_path, weight, sentence):
    torch.save({"state_dict": {"w": weight}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=sentence):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"state_dict": {}}, "its state_dict has no entries"),
        ({"state_dict": {"w": np.ones(2)}}, "its state_dict has w, of type ndarray"),
        ({"epoch": 3}, "it has: epoch"),
    ],
)
def test_a_file_without_weights_is_described_by_what_it_has(content, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        state_dict_of(content, "w.pth")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"PK\x06\x07\0", b"PK\x06\x07\1"),  # one part of several
        lambda data: gzip.compress(data)[:20] + b"\xff" * 40,
    ],
)
def test_a_damaged_archive_is_said_to_be_one(tmp_path, damage):
    torch.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(damage(data))
    assert damage(data) != data
    with pytest.raises(CheckpointError, match="damaged|gzip"):
        read_checkpoint(tmp_path / "w.pth")


def numpy_file(save):
    stream = io.BytesIO()
    save(stream, np.ones(2))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda f: torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), f), "TorchScript"),
        (lambda f: f.write_bytes(numpy_file(np.savez)), "archive of NumPy arrays"),
        (lambda f: f.write_bytes(numpy_file(np.save)), "a NumPy array"),
        (lambda f: f.write_bytes(gzip.compress(b"x" * 99)), "gunzip"),
        (lambda f: f.write_bytes(b'\x08\0\0\0\0\0\0\0{"w": 1}'), "safetensors"),
        (lambda f: f.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(9)), "HDF5"),
        (lambda f: f.write_bytes(pickle.dumps([1, 2])), "pickle of a list"),
    ],
)
def test_a_sound_file_of_another_kind_is_named(tmp_path, write, sentence):
    path = tmp_path / "other.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(path)
    with pytest.raises(CheckpointError, match=sentence):
        read_checkpoint(path)


def test_a_bare_pickle_of_arrays_is_read_as_one(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": np.ones(2)}))
    with pytest.raises(CheckpointError, match="no model weights"):
        state_dict_of(read_checkpoint(tmp_path / "w.pkl"), "w.pkl")


def wrapped_by(kind):
    """Return what torch's own wrapper of this kind saves."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    if kind == "compiled":
        return torch.compile(model).state_dict()
    if kind == "a part compiled":
        model[0] = torch.compile(model[0])
        return model.state_dict()
    if kind == "averaged":
        return torch.optim.swa_utils.AveragedModel(model).state_dict()
    prefix = {"compiled in ranks": "module._orig_mod.", "ranks compiled": "_orig_mod.module."}[
        kind
    ]
    return {prefix + name: value for name, value in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "kind", ["compiled", "a part compiled", "averaged", "compiled in ranks", "ranks compiled"]
)
def test_names_are_those_of_the_model_without_its_wrappers(kind):
    names = {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert set(state_dict_of({"state_dict": wrapped_by(kind)})) == names
