//! Forms with files, `multipart/form-data` (RFC 7578): pictures for a platform.

/// A part of a form.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) name: String,
    /// The file's name, for files.
    pub(super) file: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({}, {:?}, {} bytes)", self.name, self.file, self.bytes.len())
    }
}

/// A form's type and bytes; the boundary is random, so that no picture holds it.
pub(super) fn bytes(parts: &[Part]) -> (String, Vec<u8>) {
    let boundary: String = rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut bytes = Vec::new();
    for Part { name, file, bytes: content } in parts {
        let file = file.as_ref().map_or_else(String::new, |file| format!("; filename=\"{file}\""));
        let kind = if file.is_empty() { "" } else { "Content-Type: image/jpeg\r\n" };
        let head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n{kind}\r\n");
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_between_boundaries_that_no_picture_holds() {
        let part = |name: &str, file: Option<&str>, bytes: &[u8]| Part {
            name: name.into(),
            file: file.map(str::to_owned),
            bytes: bytes.to_vec(),
        };
        let (kind, bytes) =
            bytes(&[part("a", None, b"text"), part("file", Some("x.jpg"), b"\xff\xd8\r\n--")]);
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        assert_eq!(boundary.len(), 32);
        let mut want = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\ntext\r\n--{boundary}\r\n"
        );
        want += "Content-Disposition: form-data; name=\"file\"; filename=\"x.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n";
        let end = format!("\r\n--{boundary}--\r\n");
        assert_eq!(bytes, [want.as_bytes(), b"\xff\xd8\r\n--", end.as_bytes()].concat());
    }
}
