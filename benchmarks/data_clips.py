"""Clips to measure the data chain on: a seeded moving texture with two moving persons.

    PYTHONPATH=. python benchmarks/data_clips.py DIR        (needs PyAV: pip install av)

Writes DIR/1080/clip<i>.mp4 (1920x1080 H.264, one key frame, B frames, like a long recording) and
DIR/540/clip<i>.mp4 (960x540 of the same, by x264's defaults at crf 23 as MMAction2's resizing
script has them), 103 frames each, and DIR/ann.pkl with the joints of both persons in pixels of
1080p, all in the split "all".

How much a picture holds decides the size of a still and the time to decode it, so `--look` has two
grounds. `busy` is a carpet of strong contrast over the whole picture, harder than any room. `room`
(the default) is the same with less contrast, set once so that a plain JPEG (quality 95, halved
colour, not what packs use) of the persons' region takes what it takes on the one clip of NTU RGB+D
it was measured on: 14.3 KiB a frame for 286 x 286 px, 0.18 bytes a pixel.
"""

import argparse
import concurrent.futures
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.data.motions import ACTIONS, perform
from pipeline.data.render import Camera, Look, draw_person

FRAMES, FPS, HEIGHT, WIDTH = 103, 30, 1080, 1920
SCALE = 240.0  # pixels a metre
CONTRAST = {"room": 0.3, "busy": 1.0}  # of the ground


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--look", choices=CONTRAST, default="room")
    options = parser.parse_args()
    contrast = CONTRAST[options.look]
    clips = [make_clip(options.folder, number, contrast) for number in range(options.clips)]
    names = [clip["frame_dir"] for clip in clips]
    content = {"split": {"all": names}, "annotations": clips}
    (options.folder / "ann.pkl").write_bytes(pickle.dumps(content, protocol=4))


def make_clip(folder: Path, number: int, contrast: float) -> dict:
    """Write one clip in both sizes; return its annotation."""
    rng = np.random.default_rng(number)
    joints = persons(rng)
    name = f"clip{number}"
    full = {"crf": "23", "g": "1000", "keyint_min": "1000", "bf": "3", "sc_threshold": "0"}
    with (
        Writer(folder / "1080" / f"{name}.mp4", (WIDTH, HEIGHT), full) as large,
        Writer(folder / "540" / f"{name}.mp4", (WIDTH // 2, HEIGHT // 2), {"crf": "23"}) as small,
    ):
        for picture in pictures(joints, rng, contrast):
            frame = large.write(picture)
            small.write_frame(frame)
    return annotation(name, number, joints, rng)


def make_small_clips(folder: Path, count: int) -> None:
    """Write 540p `videos/` and `ann.pkl` by OpenCV alone: MPEG-4, faster to decode than H.264."""
    (folder / "videos").mkdir(parents=True)
    with concurrent.futures.ProcessPoolExecutor() as pool:
        made = list(pool.map(_small_clip, [folder / "videos"] * count, range(count)))
    content = {"split": {"all": [one["frame_dir"] for one in made]}, "annotations": made}
    (folder / "ann.pkl").write_bytes(pickle.dumps(content, protocol=4))


def _small_clip(folder: Path, number: int) -> dict:
    import cv2

    cv2.setNumThreads(1)
    rng = np.random.default_rng(number)
    joints, size = persons(rng), (WIDTH // 2, HEIGHT // 2)
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(folder / f"clip{number}.mp4"), code, FPS, size)
    for picture in pictures(joints, rng, CONTRAST["room"]):
        writer.write(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    writer.release()
    return annotation(f"clip{number}", number, joints, rng)


def annotation(name: str, number: int, joints: np.ndarray, rng: np.random.Generator) -> dict:
    """Return a clip's entry in MMAction2's pose format, in pixels of 1080p."""
    return {
        "frame_dir": name,
        "label": number % 2,
        "img_shape": (HEIGHT, WIDTH),
        "original_shape": (HEIGHT, WIDTH),
        "total_frames": FRAMES,
        "keypoint": joints.astype(np.float16),
        "keypoint_score": rng.uniform(0.5, 1, joints.shape[:-1]).astype(np.float16),
    }


def persons(rng: np.random.Generator) -> np.ndarray:
    """Return two people side by side, about 400 px tall, (2, T, 17, 2)."""
    tracks = []
    for place in (830, 1090):
        action = ACTIONS[int(rng.integers(len(ACTIONS)))]
        camera = Camera(rng.uniform(-0.5, 0.5), SCALE, (place + rng.uniform(-30, 30), 560))
        walk = np.linspace(0, 1, FRAMES)[:, None, None] * rng.uniform(-30, 30, (1, 1, 2))
        tracks.append(camera.project(perform(action, FRAMES, rng)) + walk)
    return np.stack(tracks)


def pictures(joints: np.ndarray, rng: np.random.Generator, contrast: float):
    """Yield the frames, RGB: a texture that drifts, drawn people, sensor noise."""
    import cv2

    grey = rng.integers(70, 186, (HEIGHT // 40 + 6, WIDTH // 40 + 9, 1))
    rough = grey + rng.integers(-12, 13, (*grey.shape[:2], 3))
    rough = (128 + contrast * (rough - 128)).astype(np.uint8)
    texture = cv2.resize(rough, None, fx=40, fy=40, interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 2, (HEIGHT + 64, WIDTH + 64, 1)).astype(np.int8)
    looks = [Look.draw(rng) for _ in joints]
    for t in range(FRAMES):
        picture = texture[t : t + HEIGHT, 2 * t : 2 * t + WIDTH].copy()
        for track, look in zip(joints, looks, strict=True):
            draw_person(picture, track[t], look, SCALE, "")
        picture = cv2.GaussianBlur(picture, (0, 0), 2)  # as soft as a real 1080p recording
        x, y = rng.integers(0, 64, 2)
        grain = noise[y : y + HEIGHT, x : x + WIDTH].astype(np.int16)
        yield np.clip(picture + grain, 0, 255).astype(np.uint8)


class Writer:
    """An H.264 file."""

    def __init__(self, path: Path, size: tuple[int, int], options: dict[str, str]) -> None:
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        self._av = av
        self._file = av.open(str(path), "w")
        self._stream = self._file.add_stream("libx264", rate=Fraction(FPS), options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 1

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()

    def write(self, picture: np.ndarray):
        """Add an RGB picture; return it as a frame."""
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        self.write_frame(frame)
        return frame

    def write_frame(self, frame) -> None:
        size = self._stream.width, self._stream.height
        scaled = frame.reformat(*size, format="yuv420p", interpolation="BICUBIC")
        scaled.pts = None
        self._file.mux(self._stream.encode(scaled))


if __name__ == "__main__":
    main()
