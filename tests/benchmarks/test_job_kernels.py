import pytest

from benchmarks.job_kernels import covered, figures, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_NNT", "matrix products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_26", "attention"),
        ("void at::native::vectorized_elementwise_kernel<8, at::native::bfloat16_copy_kernel_cuda", "casts and copies"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>", "elementwise"),
        ("Memcpy HtoD (Pinned -> Device)", "copies and fills"),
        ("triton_something", "other"),
    ],
)
def test_a_kernel_is_told_by_its_name(name, kind):
    assert kind_of(name) == kind


def test_time_that_kernels_share_counts_once():
    assert covered([(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5)]) == 5.0


def test_shares_are_of_the_kernels_and_busy_is_of_the_step():
    events = [
        {"cat": "kernel", "name": "nvjet_a", "ts": 0.0, "dur": 300.0},
        {"cat": "kernel", "name": "vectorized_elementwise", "ts": 200.0, "dur": 100.0},
        {"cat": "cpu_op", "name": "aten::mm", "ts": 0.0, "dur": 9000.0},
        {"name": "process_name"},
    ]
    told = figures(events, 2, 0.001)
    assert (told["kernels a step"], told["GPU busy, ms a step"], told["GPU busy, share of a step"]) == (1, 0.15, 0.15)
    assert told["share of the kernels' time"] == {"matrix products": 0.75, "elementwise": 0.25}
