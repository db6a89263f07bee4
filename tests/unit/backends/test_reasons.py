from __future__ import annotations

import pytest

from hoverboard.backends.reasons import about_input, reason_of

_FRAMES = (
    "Graph execution error:\n\nDetected at node m/embedding/Gather defined at (most recent call last):\n"
    '  File "/home/somebody/train.py", line 3, in <module>\n\n  File "/home/somebody/model.py", line 10, in call\n\n'
)


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        (
            _FRAMES + "indices[0,2] = 9 is not in [0, 5)\n\t [[{{node m/embedding/Gather}}]] [Op:__inference_flat_76]",
            "indices[0,2] = 9 is not in [0, 5)",
            "index 9 is not in [0, 5)",
        ),
        (
            (
                "Graph execution error:\n\nDetected at node x\n<stack traces unavailable>\nassertion failed: [When "
                '`num_oov_indices=0` all inputs should be in vocabulary, found OOV values ["zz"]]\n\t [[{{node a}}]]'
            ),
            'assertion failed: [When `num_oov_indices=0` all inputs should be in vocabulary, found OOV values ["zz"]]',
            "a value is not in the model's vocabulary",
        ),
        (
            (
                'in user code:\n\n    File "/home/somebody/train.py", line 3, in call\n        return secret(x)\n\n'
                "    ValueError: Exception encountered when calling Conv1D.call().\n\n    \x1b[1mComputed output size would be "
                "negative: -1 [input_size: 3, effective_filter_size: 5, stride: 1]\x1b[0m\n\n    Arguments received by Conv1D.call():"
            ),
            "Computed output size would be negative: -1 [input_size: 3, effective_filter_size: 5, stride: 1]",
            "the sample is too short: a dimension has 3 elements, and at least 5 are needed",
        ),
        (
            "assertion failed: [age must be at least 0.  ] [Condition x >= 0 did not hold element-wise:] [x (x:0) = ] [[-1 2]]",
            "assertion failed: [age must be at least 0.  ] [Condition x >= 0 did not hold element-wise:] [x (x:0) = ] [[-1 2]]",
            "age must be at least 0",
        ),
        (
            "assertion failed: [] [Condition x >= 0 did not hold element-wise:] [x (x:0) = ] [[-1 2]]",
            "assertion failed: [] [Condition x >= 0 did not hold element-wise:] [x (x:0) = ] [[-1 2]]",
            "x >= 0 does not hold",
        ),
        ("assertion failed: [[-1 2]]", "assertion failed: [[-1 2]]", None),
        ("assertion failed: [0.25]", "assertion failed: [0.25]", None),
        ("assertion failed: [one of [a, b]]", "assertion failed: [one of [a, b]]", "one of [a, b]"),
        (
            (
                'assertion failed: [Gr\\303\\266\\303\\237e\\007 of\\nat most \\"1\\", see /home/me/my-model/limits.md or '
                "C:\\\\models\\\\a.txt: m/s and/or 1/2] [7]"
            ),
            (
                'assertion failed: [Gr\\303\\266\\303\\237e\\007 of\\nat most \\"1\\", see /home/me/my-model/limits.md or '
                "C:\\\\models\\\\a.txt: m/s and/or 1/2] [7]"
            ),
            'Größe of at most "1", see (path) or (path) m/s and/or 1/2',
        ),
        (f"assertion failed: [{'long ' * 100}]", f"assertion failed: [{'long ' * 100}]"[:300], ("long " * 40)),
        (
            "the ratio is not a number : Tensor had Inf values\n\t [[{{node CheckNumerics}}]]",
            "the ratio is not a number : Tensor had Inf values",
            "the ratio is not a number",
        ),
        (
            "Incompatible shapes: [1,3] vs. [1,5]\n\t [[{{node add}}]]",
            "Incompatible shapes: [1,3] vs. [1,5]",
            "the sample's shape does not suit the model",
        ),
        (
            "{{function_node __inference_f_20}} Input is empty.\n\t [[{{node decode_image/DecodeImage}}]]",
            "Input is empty.",
            "there are no bytes to decode: they are empty",
        ),
        ("could not open /etc/secret: node a/b", "could not open /etc/secret: node a/b", None),
        ("", "RuntimeError", None),
    ],
)
def test_the_line_that_says_why_is_kept_and_callers_are_told_what_is_about_their_input(
    text: str, reason: str, told: str | None
) -> None:
    assert reason_of(RuntimeError(text)) == reason
    assert about_input(reason) == told
