import numpy as np
import pytest

from crispdepth.types import (
    Camera,
    DepthMap,
    Gaussians,
    Mesh,
    PointCloud,
    Scene,
    View,
    ViewDepth,
    scene_of_views,
)

K = np.array([[50.0, 0, 16], [0, 50, 12], [0, 0, 1]])


def view(name: str, x: float = 0) -> View:
    pose = np.eye(4)
    pose[0, 3] = x
    return View(np.zeros((24, 32, 3), np.uint8), name, Camera(K, (24, 32), pose))


def test_a_scene_reads_its_views_when_they_are_asked_for() -> None:
    read: list[int] = []
    views = [view(f"{i}.png", i) for i in range(4)]

    def reading(index: int) -> View:
        read.append(index)
        return views[index]

    scene = Scene("s", tuple(v.name for v in views), scene_of_views(views).cameras, reading)
    assert read == []
    assert scene[-1] is views[3]
    assert read == [3]
    assert [v.name for v in scene] == list(scene.names)
    some = scene.subset([2, 0])
    assert some.names == ("2.png", "0.png")
    assert some[0] is views[2]
    assert some.cameras[1].cam_from_world[0, 3] == 0
    with pytest.raises(IndexError, match="no view 4"):
        scene[4]


def test_a_scene_that_does_not_hold_together_is_refused() -> None:
    views = [view("a.png"), view("a.png")]
    with pytest.raises(ValueError, match="must differ"):
        scene_of_views(views)
    with pytest.raises(ValueError, match="1 of 2 views have no camera"):
        scene_of_views([views[0], View(views[1].image, "b.png")])
    one = scene_of_views(views[:1])
    with pytest.raises(ValueError, match="0 < near < far"):
        Scene("s", one.names, one.cameras, one.read, bounds=(2.0, 1.0))
    with pytest.raises(ValueError, match="2 names for 1 cameras"):
        Scene("s", ("a", "b"), one.cameras, one.read)


def test_meshes_and_points_are_checked() -> None:
    corners = np.eye(3, dtype=np.float32)
    assert len(PointCloud(corners)) == 3
    with pytest.raises(ValueError, match="vertices 0 to 3 of 3"):
        Mesh(corners, np.array([[0, 1, 3]], np.int32))
    with pytest.raises(ValueError, match="finite"):
        PointCloud(corners * np.nan)
    with pytest.raises(ValueError, match="colours"):
        Mesh(corners, np.array([[0, 1, 2]], np.int32), np.zeros((2, 3), np.uint8))
    mesh = Mesh(corners, np.array([[0, 1, 2]]))
    assert mesh.faces.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        mesh.vertices[0] = 1


def gaussians(count: int = 2, **other: np.ndarray) -> Gaussians:
    parts: dict[str, np.ndarray] = {
        "means": np.zeros((count, 3), np.float32),
        "scales": np.ones((count, 3), np.float32),
        "rotations": np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        "opacities": np.full(count, 0.5, np.float32),
        "sh": np.zeros((count, 4, 3), np.float32),
    }
    return Gaussians(**{**parts, **other})


def test_gaussians_are_checked() -> None:
    assert len(gaussians()) == 2
    assert len(gaussians(0)) == 0
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        gaussians(opacities=np.array([0.5, 1.5], np.float32))
    with pytest.raises(ValueError, match="> 0"):
        gaussians(scales=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"got \(2, 5, 3\)"):
        gaussians(sh=np.zeros((2, 5, 3), np.float32))
    with pytest.raises(ValueError, match="labels"):
        gaussians(labels=np.zeros(3, np.int32))


def test_confidence_is_zero_where_nothing_was_measured() -> None:
    values = np.ones((4, 5), np.float32)
    values[0] = np.nan
    found = ViewDepth(DepthMap(values, "depth", "m"), np.full((4, 5), 0.5, np.float32))
    assert (found.confidence[0] == 0).all()
    assert (found.confidence[1:] == 0.5).all()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ViewDepth(DepthMap(values, "depth", "m"), np.full((4, 5), 2, np.float32))
