//! The heads of parts and of HTTP messages in them.

use zeroize::Zeroizing;

use super::{
    super::{Context, Form, Whole},
    Unreadable, WINDOW, Worker,
};

/// Lines up to an empty one.
pub(super) struct Head {
    /// Its first line is a request's or a status.
    first: bool,
    carry: Zeroizing<Vec<u8>>,
    lines: usize,
    about: About,
}

/// What a head says about what follows it.
pub(super) struct About {
    pub(super) form: Form,
    /// The whole of it is masked: a form's field.
    pub(super) what: Option<Whole>,
}

/// How many lines a head may have.
const MAX_LINES: usize = 200;

impl Head {
    /// A part's; without a content type it is text (RFC 2046, section 5.1).
    pub(super) fn of_part() -> Self {
        Self::new(false, Form::Text)
    }

    /// An HTTP message's.
    pub(super) fn of_http() -> Self {
        Self::new(true, Form::Opaque)
    }

    fn new(first: bool, form: Form) -> Self {
        Self {
            first,
            carry: Zeroizing::default(),
            lines: 0,
            about: About { form, what: None },
        }
    }

    /// Takes one byte more; what it says, when that was the last one.
    pub(super) fn push(
        &mut self,
        byte: u8,
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<Option<About>, Unreadable> {
        self.carry.push(byte);
        if self.carry.len() > WINDOW || self.lines > MAX_LINES {
            return Err(Unreadable::TooLong);
        }
        if byte != b'\n' {
            return Ok(None);
        }
        self.lines += 1;
        let line = std::mem::take(&mut self.carry);
        let text = line.trim_ascii_end();
        if text.is_empty() && !self.first {
            out.extend_from_slice(&line);
            let about = About {
                form: Form::Opaque,
                what: None,
            };
            return Ok(Some(std::mem::replace(&mut self.about, about)));
        }
        self.line(text, &line[text.len()..], worker, out)?;
        Ok(None)
    }

    /// Whether a line is over, and none has begun.
    pub(super) fn is_between_lines(&self) -> bool {
        self.carry.is_empty()
    }

    fn line(
        &mut self,
        text: &[u8],
        end: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        if self.first {
            self.first = text.is_empty();
            let masked = worker.within(text, Context::default());
            out.extend_from_slice(masked.as_deref().unwrap_or(text));
            out.extend_from_slice(end);
            return Ok(());
        }
        // A line that goes on the one before could hide a value's name.
        if text.starts_with(b" ") || text.starts_with(b"\t") {
            return Err(Unreadable::Multipart);
        }
        let text = std::str::from_utf8(text).map_err(|_| Unreadable::Encoding)?;
        let (name, value) = text.split_once(':').ok_or(Unreadable::Multipart)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => self.about.form = Form::of(Some(value)),
            "content-disposition" => self.about.what = form_field(value, worker),
            "content-transfer-encoding" | "content-encoding" => {
                let is_plain = ["binary", "7bit", "8bit", "identity"]
                    .iter()
                    .any(|plain| value.eq_ignore_ascii_case(plain));
                if !is_plain {
                    return Err(Unreadable::Opaque);
                }
            }
            // It may not be true any more; the boundary says where the part ends.
            "content-length" => return Ok(()),
            _ => {}
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        let masked = worker.value(name, value.as_bytes());
        out.extend_from_slice(masked.as_deref().unwrap_or(value.as_bytes()));
        out.extend_from_slice(end);
        Ok(())
    }
}

/// `form-data; name="password"`.
fn form_field(value: &str, worker: &Worker) -> Option<Whole> {
    let (kind, parameters) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let name = super::super::form::parameter(parameters, "name")?;
    worker.set.base.fields.named(&name)
}
