//! A Parquet file of one row group, plain and uncompressed (<https://github.com/apache/parquet-format>).
//!
//! ```text
//! PAR1 ─ one page a column: header (thrift, compact), levels (RLE), values ─ footer: schema, places ─ length ─ PAR1
//! ```
//! What is written here is a small part of the format; the crates that write all of it bring Arrow's or a hundred
//! thousand lines of their own. DuckDB reads it back in `make check-archive`.

/// A column.
pub(super) struct Column {
    name: &'static str,
    values: Values,
}

/// What is in it.
pub(super) enum Values {
    /// UTF-8.
    Text(Vec<Option<String>>),
    /// 64-bit integers.
    Integers(Vec<Option<i64>>),
    /// 64-bit floating point.
    Doubles(Vec<Option<f64>>),
    /// Microseconds since the Unix epoch, UTC; in every row.
    Timestamps(Vec<i64>),
    /// Lists of 32-bit floating point; an empty one where there is none.
    Lists(Vec<Vec<f32>>),
}

impl Column {
    pub(super) fn new(name: &'static str, values: Values) -> Self {
        Self { name, values }
    }

    fn rows(&self) -> usize {
        match &self.values {
            Values::Text(values) => values.len(),
            Values::Integers(values) => values.len(),
            Values::Doubles(values) => values.len(),
            Values::Timestamps(values) => values.len(),
            Values::Lists(values) => values.len(),
        }
    }

    /// Physical type: INT64 2, FLOAT 4, DOUBLE 5, BYTE_ARRAY 6.
    fn physical(&self) -> i64 {
        match self.values {
            Values::Integers(_) | Values::Timestamps(_) => 2,
            Values::Lists(_) => 4,
            Values::Doubles(_) => 5,
            Values::Text(_) => 6,
        }
    }

    fn path(&self) -> Vec<&'static str> {
        match self.values {
            Values::Lists(_) => vec![self.name, "list", "element"],
            _ => vec![self.name],
        }
    }

    /// Levels and values of the page, and how many of them there are (nulls and empty lists count).
    fn page(&self) -> (Vec<u8>, usize) {
        let mut page = Vec::new();
        match &self.values {
            Values::Text(values) => {
                levels(&mut page, &runs(values.iter().map(Option::is_some)));
                for text in values.iter().flatten() {
                    page.extend((text.len() as u32).to_le_bytes());
                    page.extend(text.as_bytes());
                }
            }
            Values::Integers(values) => {
                levels(&mut page, &runs(values.iter().map(Option::is_some)));
                page.extend(values.iter().flatten().flat_map(|value| value.to_le_bytes()));
            }
            Values::Doubles(values) => {
                levels(&mut page, &runs(values.iter().map(Option::is_some)));
                page.extend(values.iter().flatten().flat_map(|value| value.to_le_bytes()));
            }
            // Required: no levels.
            Values::Timestamps(values) => page.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Values::Lists(lists) => {
                // Repetition: 0 begins a row, 1 goes on with it. Definition: 0 an empty list, 1 an element.
                let more = lists.iter().flat_map(|list| (0..list.len().max(1)).map(|at| at > 0));
                levels(&mut page, &runs(more));
                let there = lists.iter().flat_map(|list| (0..list.len().max(1)).map(|_| !list.is_empty()));
                levels(&mut page, &runs(there));
                page.extend(lists.iter().flatten().flat_map(|value| value.to_le_bytes()));
                return (page, lists.iter().map(|list| list.len().max(1)).sum());
            }
        }
        (page, self.rows())
    }

    /// Its schema elements: a leaf, or the three that make a list.
    fn schema(&self, out: &mut Thrift) {
        /// Repetition types.
        const REQUIRED: i64 = 0;
        const OPTIONAL: i64 = 1;
        const REPEATED: i64 = 2;
        match self.values {
            // Converted types: UTF8 0, TIMESTAMP_MICROS 10. Logical types: STRING 1, TIMESTAMP 8 (adjusted to UTC, micros).
            Values::Text(_) => self.leaf(out, self.name, OPTIONAL, &|out| {
                out.int(6, 0);
                out.structure(10, |out| out.structure(1, |_| {}));
            }),
            Values::Timestamps(_) => self.leaf(out, self.name, REQUIRED, &|out| {
                out.int(6, 10);
                out.structure(10, |out| {
                    out.structure(8, |out| {
                        out.boolean(1, true);
                        out.structure(2, |out| out.structure(2, |_| {}));
                    });
                });
            }),
            Values::Integers(_) | Values::Doubles(_) => self.leaf(out, self.name, OPTIONAL, &|_| {}),
            Values::Lists(_) => {
                // Converted type LIST 3, logical type LIST 3.
                group(out, self.name, REQUIRED, &|out| {
                    out.int(6, 3);
                    out.structure(10, |out| out.structure(3, |_| {}));
                });
                group(out, "list", REPEATED, &|_| {});
                self.leaf(out, "element", REQUIRED, &|_| {});
            }
        }
    }

    fn leaf(&self, out: &mut Thrift, name: &str, repetition: i64, logical: &dyn Fn(&mut Thrift)) {
        out.element();
        out.int(1, self.physical());
        out.int(3, repetition);
        out.text(4, name);
        logical(out);
        out.end();
    }
}

fn group(out: &mut Thrift, name: &str, repetition: i64, more: &dyn Fn(&mut Thrift)) {
    out.element();
    out.int(3, repetition);
    out.text(4, name);
    out.int(5, 1);
    more(out);
    out.end();
}

/// The whole file. All columns have as many rows.
pub(super) fn file(columns: &[Column]) -> Vec<u8> {
    const MAGIC: &[u8] = b"PAR1";
    let rows = columns.first().map_or(0, Column::rows) as i64;
    let mut bytes = MAGIC.to_vec();
    // Of each column: where it begins, how long it is, how many values it has.
    let mut places = Vec::new();
    for column in columns {
        let (page, values) = column.page();
        let begin = bytes.len();
        let mut header = Thrift::default();
        header.int(1, 0); // DATA_PAGE
        header.int(2, page.len() as i64);
        header.int(3, page.len() as i64);
        header.structure(5, |out| {
            out.int(1, values as i64);
            out.int(2, 0); // PLAIN
            out.int(3, 3); // levels as RLE
            out.int(4, 3);
        });
        bytes.extend(header.finish());
        bytes.extend(page);
        places.push((begin as i64, (bytes.len() - begin) as i64, values as i64));
    }
    let elements = 1 + columns.iter().map(|it| it.path().len()).sum::<usize>();
    let mut footer = Thrift::default();
    footer.int(1, 1); // version
    footer.list(2, Thrift::STRUCT, elements);
    footer.element();
    footer.text(4, "frames");
    footer.int(5, columns.len() as i64);
    footer.end();
    columns.iter().for_each(|column| column.schema(&mut footer));
    footer.long(3, rows);
    footer.list(4, Thrift::STRUCT, 1);
    footer.element();
    row_group(&mut footer, columns, &places, rows);
    footer.end();
    footer.text(6, concat!("dc-encoder ", env!("CARGO_PKG_VERSION")));
    let footer = footer.finish();
    bytes.extend(&footer);
    bytes.extend((footer.len() as u32).to_le_bytes());
    bytes.extend(MAGIC);
    bytes
}

fn row_group(out: &mut Thrift, columns: &[Column], places: &[(i64, i64, i64)], rows: i64) {
    out.list(1, Thrift::STRUCT, columns.len());
    for (column, (begin, length, values)) in columns.iter().zip(places) {
        out.element();
        out.long(2, *begin);
        out.structure(3, |out| {
            out.int(1, column.physical());
            out.list(2, Thrift::INT, 2);
            out.bare_int(0); // PLAIN
            out.bare_int(3); // RLE
            let path = column.path();
            out.list(3, Thrift::TEXT, path.len());
            path.iter().for_each(|part| out.bare_text(part));
            out.int(4, 0); // uncompressed
            out.long(5, *values);
            out.long(6, *length);
            out.long(7, *length);
            out.long(9, *begin);
        });
        out.end();
    }
    out.long(2, places.iter().map(|(_, length, _)| length).sum());
    out.long(3, rows);
}

/// Equal neighbours together: how many, and of which level.
fn runs(levels: impl Iterator<Item = bool>) -> Vec<(u64, bool)> {
    let mut runs: Vec<(u64, bool)> = Vec::new();
    for level in levels {
        match runs.last_mut().filter(|(_, last)| *last == level) {
            Some((count, _)) => *count += 1,
            None => runs.push((1, level)),
        }
    }
    runs
}

/// Levels of one bit in the hybrid encoding, runs alone: their length in bytes, then `count << 1` and the level.
fn levels(page: &mut Vec<u8>, runs: &[(u64, bool)]) {
    let mut encoded = Vec::new();
    for (count, level) in runs {
        varint(&mut encoded, count << 1);
        encoded.push(u8::from(*level));
    }
    page.extend((encoded.len() as u32).to_le_bytes());
    page.extend(encoded);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Thrift's compact protocol: structures as runs of fields, each with the distance of its number from the one before.
#[derive(Default)]
struct Thrift {
    bytes: Vec<u8>,
    /// The field before, of each structure that is open; the outermost one first.
    open: Vec<i16>,
    last: i16,
}

impl Thrift {
    const INT: u8 = 5;
    const LONG: u8 = 6;
    const TEXT: u8 = 8;
    const LIST: u8 = 9;
    const STRUCT: u8 = 12;

    fn field(&mut self, number: i16, kind: u8) {
        // Numbers rise and are below 16 everywhere in Parquet's structures.
        self.bytes.push(((number - self.last) as u8) << 4 | kind);
        self.last = number;
    }

    fn zigzag(&mut self, value: i64) {
        varint(&mut self.bytes, ((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn int(&mut self, number: i16, value: i64) {
        self.field(number, Self::INT);
        self.zigzag(value);
    }

    fn long(&mut self, number: i16, value: i64) {
        self.field(number, Self::LONG);
        self.zigzag(value);
    }

    fn boolean(&mut self, number: i16, value: bool) {
        self.field(number, if value { 1 } else { 2 });
    }

    fn text(&mut self, number: i16, text: &str) {
        self.field(number, Self::TEXT);
        self.bare_text(text);
    }

    fn bare_text(&mut self, text: &str) {
        varint(&mut self.bytes, text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }

    fn bare_int(&mut self, value: i64) {
        self.zigzag(value);
    }

    /// Begins a list of so many; its elements follow bare.
    fn list(&mut self, number: i16, kind: u8, len: usize) {
        self.field(number, Self::LIST);
        if len < 15 {
            self.bytes.push((len as u8) << 4 | kind);
        } else {
            self.bytes.push(0xf0 | kind);
            varint(&mut self.bytes, len as u64);
        }
    }

    fn structure(&mut self, number: i16, fields: impl FnOnce(&mut Self)) {
        self.field(number, Self::STRUCT);
        self.element();
        fields(self);
        self.end();
    }

    /// Begins a structure that is an element of a list.
    fn element(&mut self) {
        self.open.push(self.last);
        self.last = 0;
    }

    fn end(&mut self) {
        self.bytes.push(0);
        self.last = self.open.pop().unwrap_or(0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_runs() {
        let mut page = Vec::new();
        levels(&mut page, &runs([true, true, false].into_iter()));
        assert_eq!(page, [4, 0, 0, 0, 2 << 1, 1, 1 << 1, 0]);
        let mut long = Vec::new();
        varint(&mut long, 300);
        assert_eq!(long, [0xac, 0x02]);
    }

    #[test]
    fn the_file_begins_and_ends_as_it_must() {
        let columns = [Column::new("a", Values::Integers(vec![Some(1), None]))];
        let bytes = file(&columns);
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        let at = bytes.len() - 8;
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        // The footer's first field: version, an INT32 of 1.
        assert_eq!(bytes[at - length..at - length + 2], [0x15, 0x02]);
    }
}
