//! Lists of frames: folders, the three kinds of list, and everything wrong with them.

use std::fs;
use std::path::Path;

use shared::frames::{FrameRef, list};
use tempfile::TempDir;

/// A folder with these files; each holds its own name.
fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        write(&folder, file, file);
    }
    folder
}

fn write(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn ids(frames: &[FrameRef]) -> Vec<&str> {
    frames.iter().map(|frame| frame.id.as_str()).collect()
}

fn times(frames: &[FrameRef]) -> Vec<String> {
    frames.iter().map(|frame| frame.captured_at.unwrap().to_string()).collect()
}

/// The message for a list of this name and content, beside frames `a.jpg` and `b.jpg`.
fn refusal(name: &str, text: impl AsRef<[u8]>) -> String {
    let folder = folder(&["a.jpg", "b.jpg"]);
    write(&folder, name, text);
    let error = list(&folder.path().join(name)).unwrap_err().to_string();
    assert!(error.contains(folder.path().to_str().unwrap()), "names the list: {error}");
    error
}

#[test]
fn a_folder_is_searched_and_sorted() {
    let folder =
        folder(&["b.jpg", "a/2.PNG", "a/10.jpeg", "c.txt", "a/.hidden.jpg", ".cache/x.jpg", "d.gif"]);
    let frames = list(folder.path()).unwrap();
    assert_eq!(ids(&frames), ["a/10.jpeg", "a/2.PNG", "b.jpg"]);
    assert_eq!(fs::read_to_string(&frames[1].path).unwrap(), "a/2.PNG", "the path leads to the file");
}

#[test]
fn time_comes_from_the_name_else_from_the_file() {
    let folder = folder(&["frames/2023-06-13T03_11_46.jpg", "x.jpg"]);
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(folder.path().join("x.jpg")).unwrap().set_modified(modified).unwrap();
    assert_eq!(times(&list(folder.path()).unwrap()), ["2023-06-13T03:11:46Z", "1970-01-12T13:46:40Z"]);
}

#[test]
fn a_csv_of_labels_is_a_list() {
    let folder = folder(&["frames/2023-06-13T03_11_46.jpg", "frames/b, or c.jpg"]);
    let text = "\u{feff}file,captured_at,local_time,minute_of_day\r\n\
                frames/2023-06-13T03_11_46.jpg,2023-06-12T20:11:47-07:00,whatever,1211.77\r\n\
                \"frames/b, or c.jpg\",2023-06-13T03:41:42+00:00,,\r\n";
    write(&folder, "labels.csv", text);
    let frames = list(&folder.path().join("labels.csv")).unwrap();
    assert_eq!(ids(&frames), ["frames/2023-06-13T03_11_46.jpg", "frames/b, or c.jpg"], "in the list's order");
    assert_eq!(
        times(&frames),
        ["2023-06-13T03:11:47Z", "2023-06-13T03:41:42Z"],
        "the column before the name"
    );
}

#[test]
fn a_csv_may_leave_a_time_out() {
    let folder = folder(&["2023-06-13T03_11_46.jpg"]);
    write(&folder, "l.csv", "captured_at, file\n, ./2023-06-13T03_11_46.jpg\n");
    let frames = list(&folder.path().join("l.csv")).unwrap();
    assert_eq!(
        (ids(&frames), times(&frames)),
        (vec!["2023-06-13T03_11_46.jpg"], vec!["2023-06-13T03:11:46Z".into()])
    );
}

#[test]
fn a_jsonl_of_labels_is_a_list() {
    let folder = folder(&["frames/000001.jpg", "frames/000002.jpg", "c.jpg"]);
    let text = r#"{"file": "frames/000001.jpg", "t_s": 0.0, "count": 3, "boxes_xywh": [[311.9, 98.8, 19.4, 47.0]]}

{"file": "frames/000002.jpg", "t_s": 0.143, "count": 3}
{"file": "c.jpg", "captured_at": "2023-06-13T03:11:46Z", "t_s": 7}
"#;
    write(&folder, "labels.jsonl", text);
    let frames = list(&folder.path().join("labels.jsonl")).unwrap();
    assert_eq!(ids(&frames), ["frames/000001.jpg", "frames/000002.jpg", "c.jpg"]);
    assert_eq!(times(&frames), ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.143Z", "2023-06-13T03:11:46Z"]);
}

#[test]
fn a_text_file_is_one_path_a_line() {
    let folder = folder(&["b.jpg", "a.jpg"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let absolute = elsewhere.path().join("z.jpg");
    fs::write(&absolute, "").unwrap();
    write(&folder, "l.txt", format!("b.jpg\n\n  a.jpg  \n{}\n", absolute.display()));
    let frames = list(&folder.path().join("l.txt")).unwrap();
    assert_eq!(ids(&frames), ["b.jpg", "a.jpg", absolute.to_str().unwrap()]);
    assert_eq!(frames[2].path, absolute);
}

#[test]
fn nothing_to_list_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(list(empty.path()).unwrap_err().to_string().contains("looked for .jpg, .jpeg and .png"));
    assert!(refusal("l.txt", "\n\n").contains("no lines that name a file"));
    assert!(refusal("l.csv", "file\n").contains("no lines that name a file"));
    assert!(refusal("l.csv", "").contains("no lines that name a file"));
    assert!(refusal("l.jsonl", "").contains("no lines that name a file"));
}

#[test]
fn what_is_no_list_is_called_so() {
    let error = list(Path::new("/nowhere/frames")).unwrap_err().to_string();
    assert!(error.contains("cannot read /nowhere/frames"), "{error}");
    assert!(refusal("l.xml", "<file>").contains("a list ends in .csv, .jsonl or .txt"));
}

#[test]
fn errors_in_a_list_name_the_line() {
    for (name, text, expected) in [
        ("l.txt", "a.jpg\n\nc.jpg\n", "l.txt, line 3: cannot read "),
        ("l.txt", "a.jpg\n.\n", "l.txt, line 2: cannot read "),
        ("l.txt", "a.jpg\n./a.jpg\n", "l.txt, line 2: a.jpg is already on line 1"),
        ("l.csv", "file,count\na.jpg,1\nb.jpg,2,3\n", "l.csv, line 3: 3 columns where the header has 2"),
        ("l.csv", "file,count\na.jpg,1\n,2\n", "l.csv, line 3: `file` is empty"),
        (
            "l.csv",
            "file,captured_at\na.jpg,noon\n",
            "l.csv, line 2: `captured_at` is \"noon\"; write it as 2023-",
        ),
        ("l.csv", "path,count\na.jpg,1\n", "l.csv: there is no column `file`, only `path`, `count`"),
        ("l.jsonl", "{\"file\": \"a.jpg\"}\n{\"file\": \n", "l.jsonl, line 2: not a JSON object of a frame"),
        ("l.jsonl", "{\"path\": \"a.jpg\"}\n", "l.jsonl, line 1: there is no key `file`"),
        ("l.jsonl", "{\"file\": \"a.jpg\", \"t_s\": 1e300}\n", "l.jsonl, line 1: `t_s`"),
        ("l.jsonl", "{\"file\": 3}\n", "l.jsonl, line 1: not a JSON object of a frame"),
    ] {
        let error = refusal(name, text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let error = refusal("l.txt", b"a.jpg\n\xFFb.jpg\n");
    assert!(error.contains("l.txt, line 2: the text is not UTF-8"), "{error}");
}
