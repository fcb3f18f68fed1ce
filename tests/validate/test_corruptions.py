import numpy as np
import pytest
from support.digits import raw_digits

from slimline.measure.evaluation import load_evaluation
from slimline.validate.corruptions import CORRUPTIONS, corrupt
from slimline.validate.spec import Validate

PLAIN = np.random.default_rng(0).integers(60, 190, (6, 20, 28, 3), dtype=np.uint8)


def off(images, name, severity):
    made = corrupt(images, name, severity, (0,))
    assert (made.dtype, made.shape) == (np.uint8, images.shape)
    return np.abs(made.astype(float) - images).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_more(name):
    found = [off(PLAIN, name, severity) for severity in (1, 2, 3)]
    assert 0 < found[0] < found[1] < found[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_equal_seeds_give_equal_images(name):
    first, second = (corrupt(PLAIN, name, 2, (3, 4)) for _ in range(2))
    assert np.array_equal(first, second)
    other = corrupt(PLAIN, name, 2, (3, 5))
    assert np.array_equal(first, other) is (name != "gaussian noise")


def test_noise_has_the_deviation_it_should():
    grey = np.full((4, 64, 64, 1), 128, np.uint8)
    noisy = corrupt(grey, "gaussian noise", 2, (0,)).astype(float)
    assert noisy.std() == pytest.approx(0.08 * 255, rel=0.03)


def test_blur_keeps_the_mean_and_smears_a_point():
    point = np.zeros((1, 33, 33, 1), np.uint8)
    point[0, 16, 16] = 255
    found = corrupt(point, "blur", 3, (0,))[0, :, :, 0].astype(float)
    sigma = 33 / 32
    assert found[16, 16] == pytest.approx(255 / (2 * np.pi * sigma**2), rel=0.05)
    assert found[16, 17] == found[17, 16] == found[15, 16] > 0


def test_contrast_keeps_each_channels_mean_and_brightness_moves_it():
    means = PLAIN.mean(axis=(1, 2))
    assert corrupt(PLAIN, "contrast", 3, (0,)).mean(axis=(1, 2)) == pytest.approx(means, abs=0.6)
    brighter = corrupt(PLAIN, "brightness", 2, (0,)).mean(axis=(1, 2))
    assert brighter == pytest.approx(means + 0.15 * 255, abs=1)


def test_blocks_lose_detail_and_keep_what_is_flat():
    flat = np.full((1, 16, 16, 1), 99, np.uint8)
    assert off(flat, "jpeg blocks", 1) < 3
    fine = (np.indices((16, 16)).sum(axis=0) % 2 * 6 + 100).astype(np.uint8)[None, :, :, None]
    made = corrupt(fine, "jpeg blocks", 3, (0,))
    assert made.std() < fine.std() / 2


def test_an_image_smaller_than_a_block_keeps_its_shape():
    assert off(PLAIN[:, :5, :3], "jpeg blocks", 2) > 0


def test_robustness_and_calibration_are_measured_on_both(digits, tmp_path):
    job = Validate(
        baseline=digits.float_onnx,
        candidate=digits.int8,
        test=digits.test,
        latency_rounds=20,
        robustness_examples=60,
        batch=4,
    )
    made = job.run(work_dir=tmp_path)
    record = load_evaluation(made["evaluation"].path)
    found = record.robustness
    assert len(found.conditions) == 15
    assert found.examples == 60
    assert found.baseline == pytest.approx(np.mean([c.baseline for c in found.conditions]))
    assert found.drop == pytest.approx(found.baseline - found.candidate)
    assert found.upper_bound > found.drop
    worst = min(found.conditions, key=lambda c: c.baseline)
    assert worst.baseline < record.stages[0].accuracy.value
    first, last = record.stages
    assert record.calibration.drop == pytest.approx(last.ece - first.ece)
    assert record.calibration.upper_bound > record.calibration.drop
    assert 0 < first.brier < 0.5
    for stage in record.stages:
        bins = stage.reliability
        assert sum(b.examples for b in bins) == 597
        ece = sum(b.examples * abs(b.accuracy - b.confidence) for b in bins) / 597
        assert ece == pytest.approx(stage.ece)
        assert stage.latency_p95_ms >= stage.latency_min_ms > 0
        assert stage.cpu_ms > 0
        assert (stage.batch, stage.batch_latency_ms.value > 0) == (4, True)
    page = (made["report"].path / "index.html").read_text()
    for text in ("gaussian noise", "Brier score", "drop against size", "batch of 4"):
        assert text in page
    assert "processor" in record.machine


def test_robustness_can_be_left_out(digits, tmp_path):
    job = Validate(
        baseline=digits.int8,
        candidate=digits.int8,
        test=digits.test,
        latency_rounds=20,
        robustness_examples=0,
    )
    found = load_evaluation(job.run(work_dir=tmp_path)["evaluation"].path)
    assert found.robustness is None
    assert found.calibration.drop == 0


def test_the_digits_are_images_that_can_be_corrupted():
    x, _ = raw_digits()
    assert off(x[:20], "blur", 1) > 0
