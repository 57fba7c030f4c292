//! Label files: read, or refused with their line.

use super::*;

#[test]
fn labels_are_read_from_csv_and_json_lines() {
    let csv = read(
        "\u{feff}captured_at,file,count,note\nx,./a.jpg, 3 ,\"one, two\"\ny,b/c.jpg,4.5,\n",
        Task::Count,
    );
    let json = read(
        "{\"file\": \"a.jpg\", \"t_s\": 0.0, \"count\": 3, \"boxes\": [[1, 2]]}\n\n{\"file\": \"b/c.jpg\", \"count\": 4.5}\n",
        Task::Count,
    );
    let (csv, json) = (csv.unwrap(), json.unwrap());
    let plain = |labels: &Labels| -> Vec<(String, f64, usize)> {
        labels.rows.iter().map(|row| (row.file.clone(), row.value, row.line)).collect()
    };
    assert_eq!(plain(&csv), [("a.jpg".into(), 3.0, 2), ("b/c.jpg".into(), 4.5, 3)]);
    assert_eq!(plain(&json), [("a.jpg".into(), 3.0, 1), ("b/c.jpg".into(), 4.5, 3)]);
    assert_eq!(csv.digest.len(), 64);
    assert_ne!(csv.digest, json.digest);
}

#[test]
fn a_wrong_labels_file_is_refused_with_its_line() {
    for (text, task, want) in [
        ("file,people\na,1\n", Task::Count, "labels: there is no column `count`, only `file`, `people`"),
        ("name,count\na,1\n", Task::Count, "labels: there is no column `file`, only `name`, `count`"),
        ("file,count\na,1\nb,two\n", Task::Count, "labels line 3: `count` is \"two\", want a number"),
        ("file,count\na,NaN\n", Task::Count, "labels line 2: `count` is NaN, want a number from 0 up"),
        ("file,count\na,-1\n", Task::Count, "labels line 2: `count` is -1, want a number from 0 up"),
        ("file,count\na,inf\n", Task::Count, "labels line 2: `count` is inf, want a number from 0 up"),
        ("file,count\n,1\n", Task::Count, "labels line 2: `file` is empty"),
        (
            "file,count\na,1\nb,2\n./a,3\n",
            Task::Count,
            "labels: `a` is labelled twice, in line 2 and line 4; keep one",
        ),
        ("file,value\na,inf\n", Task::Scalar, "labels line 2: `value` is inf, want a finite number"),
        ("file,count\n", Task::Count, "labels holds no labels"),
        ("", Task::Count, "labels: there is no column `file`, only "),
        (
            "file,minute_of_day\na,1440\n",
            Task::TimeOfDay,
            "labels line 2: `minute_of_day` is 1440, want a number from 0 to below 1440",
        ),
        ("{\"file\": \"a\", \"count\": 1}\n{oops\n", Task::Count, "labels line 2: not a JSON object"),
        ("{\"file\": \"a\"}\n", Task::Count, "labels line 1: there is no `count`, want a number"),
        (
            "{\"file\": \"a\", \"count\": \"3\"}\n",
            Task::Count,
            "labels line 1: `count` is \"3\", want a number",
        ),
        ("{\"file\": 7, \"count\": 3}\n", Task::Count, "labels line 1: `file` is 7, want the frame's path"),
    ] {
        let got = read(text, task).unwrap_err();
        assert!(got.starts_with(want), "{text:?}: {got}");
    }
    assert!(read("file,count\na,1\nb\n", Task::Count).unwrap_err().starts_with("labels line 3: "));
    let error = Labels::read(Path::new("/nowhere/labels.csv"), Task::Count).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the labels /nowhere/labels.csv: No such file"), "{error}");
}
