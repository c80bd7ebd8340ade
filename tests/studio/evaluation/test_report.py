from studio.evaluation.report import figure, table


def test_foreign_text_stays_in_its_cell() -> None:
    text = table(("class", "count"), [("a|b\n| c | d |", 3), ("<script>", 1), ("\x1b]52;c;x\x07", 0)])

    lines = text.splitlines()
    assert len(lines) == 5
    assert lines[2].replace("\\|", "").count("|") == 3
    assert "<script" not in text.replace("\\<", "")
    assert "\x1b" not in text


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    assert [figure(value) for value in (None, 0.0, 1234.567, 0.00123456)] == ["–", "0", "1235", "0.001235"]
