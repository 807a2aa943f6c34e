import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.evaluation.raw import rows
from duotrack.evaluation.raw.problems import Problem
from duotrack.evaluation.raw.rows import RowsError, content, read_lines, read_rows

BOXES = [[698, 377, 48, 87], [700.5, -380, 47, 87]]


@pytest.mark.parametrize(
    "text",
    [
        "698,377,48,87\n700.5,-380,47,87\n",
        "698,377,48,87\n700.5,-380,47,87",
        "698 377 48 87\n700.5 -380 47 87\n",
        "698\t377\t48\t87\n700.5\t-380\t47\t87\n",
        "698;377;48;87\n700.5;-380;47;87\n",
        "698,\t377 , 48;  87\n  700.5 -380\t47,87  \n",
        "698,377,48,87\r\n700.5,-380,47,87\r\n",
        "698,377,48,87\r700.5,-380,47,87\r",
        "\ufeff698,377,48,87\n700.5,-380,47,87\n",
        "\n698,377,48,87\n\n \t\n700.5,-380,47,87\n\n",
        "6.980000000000000000e+02 3.77e2 4.8E1 87.\n7005e-1 -380.0 +47 087\n",
        "[698, 377, 48, 87]\n[700.5, -380, 47, 87]\n",
        "[[698 377 48 87]\n [700.5 -380 47 87]]\n",
        "(698, 377, 48, 87)\n(700.5, -380, 47, 87)\n",
        "[698 377 48 87;\n700.5 -380 47 87];\n",
        "698,377,48,87,\n700.5,-380,47,87,\n",
    ],
)
def test_every_way_of_writing_a_table(text: str) -> None:
    values, header = read_rows(text.encode())
    assert values.dtype == np.float64
    assert values.tolist() == BOXES
    assert not header


@pytest.mark.parametrize("header", ["x,y,w,h", "# x y w h", "left\ttop\twidth\theight", "box"])
def test_a_header_is_told(header: str) -> None:
    values, skipped = read_rows(f"{header}\n698,377,48,87\n700.5,-380,47,87\n".encode())
    assert values.tolist() == BOXES
    assert skipped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,nan,3,NaN\n", [1, np.nan, 3, np.nan]),
        ("nan nan nan nan\n", [np.nan] * 4),
        ("1,,3,4\n", [1, np.nan, 3, 4]),
        (",2,3,4\n", [np.nan, 2, 3, 4]),
        ("1,2,3,\n", [1, 2, 3, np.nan]),
        (",,,\n", [np.nan] * 4),
        ("1,2, ,4\n", [1, 2, np.nan, 4]),
        ("1,2,,4,\n", [1, 2, np.nan, 4]),
        ("1,2,inf,-Inf", [1, 2, np.inf, -np.inf]),
        ("1 2 1e999 4", [1, 2, np.inf, 4]),
    ],
)
def test_empty_fields_are_nan_and_never_close_the_gap(text: str, expected: list[float]) -> None:
    for lines in (text, f"1,2,3,4\n{text}"):
        np.testing.assert_array_equal(read_rows(lines.encode())[0][-1], expected)


@pytest.mark.parametrize(
    ("data", "problem", "place"),
    [
        (b"", Problem.EMPTY, ""),
        (b" \r\n\n\t", Problem.EMPTY, ""),
        (b"\xef\xbb\xbf\n", Problem.EMPTY, ""),
        ("\x85\n".encode(), Problem.EMPTY, ""),
        (b"PK\x03\x04\0\0", Problem.BINARY, ""),
        (b"\x80\x05\x95\xff\xfe", Problem.BINARY, ""),
        ("1,2,3,4\n".encode("utf-16"), Problem.BINARY, "UTF-16"),
        (b"1,2,3,4\n1,x2,3,4\n", Problem.NOT_A_NUMBER, "line 2: 'x2'"),
        (b"x,y,w,h\n\n1,2,3,4\n1,2+3i,3,4\n", Problem.NOT_A_NUMBER, "line 4: '2+3i'"),
        (b"x,y,w,h\n", Problem.NOT_A_NUMBER, "line 1: 'x'"),
        (b"1_0,2,3,4\n", Problem.NOT_A_NUMBER, "line 1: '1_0'"),
        (b"<html>\n<body>404</body>\n", Problem.NOT_A_NUMBER, "line 2"),
        (b"1,2,3,4\n1,2,3\n", Problem.RAGGED, "line 2: 3 after 4"),
        (b"1 2 3 4\n1 2 3 4 5\n1 2 3\n", Problem.RAGGED, "line 2: 5 after 4"),
        (b"0.03\n0.02\n", Problem.COLUMNS, "has 1"),
        (b"1,2,3,4,0.9\n", Problem.COLUMNS, "has 5"),
        (b"1,2,3,4 1,2,3,4 1,2,3,4\n", Problem.COLUMNS, "has 12"),
    ],
)
def test_what_is_no_table_is_named(data: bytes, problem: Problem, place: str) -> None:
    with pytest.raises(RowsError) as error:
        read_rows(content(data))
    assert error.value.problem == problem
    assert place in error.value.place


def test_a_file_beyond_the_limit_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_FILE", 7)
    with pytest.raises(RowsError) as error:
        content(b"1,2,3,4\n")
    assert error.value.problem == Problem.HUGE


numbers = st.one_of(st.integers(-5000, 5000), st.floats(allow_infinity=True, allow_nan=True))


@given(data=st.data(), columns=st.sampled_from([4, 8]), separator=st.sampled_from([",", " ", "\t", ", ", ";", " ,\t"]))
def test_numbers_come_back_to_the_last_bit(data: st.DataObject, columns: int, separator: str) -> None:
    table = data.draw(st.lists(st.lists(numbers, min_size=columns, max_size=columns), min_size=1, max_size=5))
    text = "\n".join(separator.join(map(repr, row)) for row in table)
    np.testing.assert_array_equal(read_rows(text.encode())[0], np.array(table, np.float64))


@given(st.lists(st.sampled_from([*"0123456789", *",; \t\n\r.-", "nan", "1,2,3,4", "\n1 2 3 4", "x", "_", "\ufeff"])))
def test_the_quick_and_the_careful_reader_agree(parts: list[str]) -> None:
    data = "".join(parts).encode()
    try:
        expected = read_lines(data)
    except RowsError as problem:
        with pytest.raises(RowsError) as error:
            read_rows(data)
        assert error.value.args == problem.args
    else:
        found = read_rows(data)
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1] == expected[1]
