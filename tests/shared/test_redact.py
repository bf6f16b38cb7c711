import pytest

from pipeline.shared.redact import HIDDEN, redact


@pytest.mark.parametrize(
    "key",
    ["api_key", "wandb.apiKey", "storage_password", "db_passwd", "HF_TOKEN", "client-secret"],
)
def test_a_key_that_names_a_credential_hides_its_value(key):
    assert redact({key: "s3cr3t"}) == {key: HIDDEN}


@pytest.mark.parametrize("key", ["tokens_per_clip", "keypoints", "monkey", "secretary", "passes"])
def test_ordinary_names_keep_their_value(key):
    assert redact({key: 17}) == {key: 17}


def test_hides_credentials_wherever_they_are_nested():
    cleaned = redact({"a": [{"b": "postgresql://me:pw@host/db"}, "ghp_" + "a" * 30]})
    assert cleaned == {"a": [{"b": f"postgresql://{HIDDEN}@host/db"}, HIDDEN]}


def test_keeps_the_file_name_of_a_path_and_drops_its_folders():
    assert redact("failed to read /home/zh/data/clip_01.npz at once") == (
        "failed to read clip_01.npz at once"
    )


@pytest.mark.parametrize(
    "text", ["work_dirs/pcan/epoch_26.pth", "acc/RGBPose_1:1_top1", "https://host/a/b", "1/2"]
)
def test_leaves_relative_paths_metrics_and_addresses(text):
    assert redact(text) == text
