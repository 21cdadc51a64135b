//! What a client asks for, message by message. Names and texts are judged, so they are read exactly as the server reads them.

use bytes::Bytes;

use super::frame::{Fields, FrameError, Message};

/// Bytes of a statement's text at most: it is judged as a whole.
pub const STATEMENT: usize = 1 << 20;
/// Bytes of all bound parameters of one statement at most: they are judged, and shown to people.
pub const PARAMETERS: usize = 16 << 20;
/// Bytes of any other message that is read as a whole.
const SMALL: usize = 64 << 10;

/// Bytes of a name that the server tells it by (`NAMEDATALEN` in pg_config_manual.h, less the zero byte): longer ones mean what others do.
const NAME: usize = 63;

/// How many bytes of body a message of this type may have; `None` where it is passed on as it comes.
#[must_use]
pub fn limit(tag: u8) -> Option<usize> {
    match tag {
        b'Q' | b'P' => Some(STATEMENT),
        b'B' => Some(PARAMETERS),
        b'd' => None,
        _ => Some(SMALL),
    }
}

/// A message from a client, read.
#[derive(Debug)]
pub enum Asked<'a> {
    /// Simple query: one text, any number of statements.
    Query(&'a str),
    /// A statement under a name.
    Parse {
        /// The name; empty for the unnamed one.
        name: &'a str,
        /// One statement at most.
        text: &'a str,
        /// The types of the parameters, as far as the client tells them.
        types: Vec<u32>,
    },
    /// A portal: a statement with its parameters.
    Bind {
        /// The name; empty for the unnamed one.
        portal: &'a str,
        /// The statement's name.
        statement: &'a str,
        /// Each parameter's format and value, `None` for NULL.
        parameters: Vec<(i16, Option<&'a [u8]>)>,
    },
    /// What a statement or portal takes and gives.
    Describe(Target, &'a str),
    /// Run a portal.
    Execute(&'a str),
    /// Forget a statement or portal.
    Close(Target, &'a str),
    /// Answer now.
    Flush,
    /// The end of a pipeline.
    Sync,
    /// The end of the data.
    CopyDone,
    /// No data, for this reason.
    CopyFail,
    /// The end of the connection.
    Terminate,
    /// A function, by number and around SQL.
    FunctionCall,
}

/// What a Describe or a Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// Reads a message.
///
/// # Errors
/// When it is none that a client may send here.
pub fn read(message: &Message) -> Result<Asked<'_>, FrameError> {
    let mut fields = message.fields();
    let asked = match message.tag {
        b'Q' => Asked::Query(fields.text()?),
        b'P' => Asked::Parse {
            name: name(&mut fields)?,
            text: fields.text()?,
            types: types(&mut fields)?,
        },
        b'B' => bind(&mut fields)?,
        b'D' => Asked::Describe(target(&mut fields)?, name(&mut fields)?),
        b'E' => {
            let portal = name(&mut fields)?;
            fields.int32()?;
            Asked::Execute(portal)
        }
        b'C' => Asked::Close(target(&mut fields)?, name(&mut fields)?),
        b'H' => Asked::Flush,
        b'S' => Asked::Sync,
        b'c' => Asked::CopyDone,
        b'f' => {
            fields.c_string()?;
            Asked::CopyFail
        }
        b'X' => Asked::Terminate,
        b'F' => return Ok(Asked::FunctionCall),
        _ => return Err(FrameError::Malformed("a client sends no such message")),
    };
    fields.end()?;
    Ok(asked)
}

/// A statement's or portal's.
fn name<'a>(fields: &mut Fields<'a>) -> Result<&'a str, FrameError> {
    let name = fields.text()?;
    match name.len() {
        0..=NAME => Ok(name),
        _ => Err(FrameError::Malformed(
            "a statement's or portal's name is longer than 63 bytes, of which PostgreSQL reads no more",
        )),
    }
}

fn types(fields: &mut Fields<'_>) -> Result<Vec<u32>, FrameError> {
    let count = fields.count()?;
    let one = |_| fields.int32().map(i32::cast_unsigned);
    (0..count).map(one).collect()
}

fn target(fields: &mut Fields<'_>) -> Result<Target, FrameError> {
    match fields.byte()? {
        b'S' => Ok(Target::Statement),
        b'P' => Ok(Target::Portal),
        _ => Err(FrameError::Malformed(
            "it is about neither a statement nor a portal",
        )),
    }
}

fn bind<'a>(fields: &mut Fields<'a>) -> Result<Asked<'a>, FrameError> {
    let portal = name(fields)?;
    let statement = name(fields)?;
    let count = fields.count()?;
    let formats = (0..count)
        .map(|_| fields.int16())
        .collect::<Result<Vec<_>, _>>()?;
    let count = fields.count()?;
    if formats.len() > 1 && formats.len() != count {
        return Err(FrameError::Malformed(
            "there are more or fewer formats than parameters",
        ));
    }
    let format = |at: usize| match formats.as_slice() {
        [] => 0,
        [all] => *all,
        each => each[at],
    };
    let parameters = (0..count)
        .map(|at| Ok((format(at), fields.value()?)))
        .collect::<Result<Vec<_>, FrameError>>()?;
    for _ in 0..fields.count()? {
        fields.int16()?;
    }
    Ok(Asked::Bind {
        portal,
        statement,
        parameters,
    })
}

/// The message that ends a `COPY FROM STDIN` for this reason.
#[must_use]
pub fn is_copy(tag: u8) -> bool {
    matches!(tag, b'd' | b'c' | b'f')
}

/// The whole of a message as it came, head included, and the message itself.
#[must_use]
pub fn split(tag: u8, whole: &Bytes) -> Message {
    Message {
        tag,
        body: whole.slice(super::frame::HEAD..),
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, BytesMut};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bind_is_read_to_its_last_parameter() {
        let mut body = BytesMut::new();
        body.put_slice(b"p\0s\0");
        body.put_u16(1);
        body.put_i16(1);
        body.put_u16(2);
        body.put_i32(-1);
        body.put_i32(3);
        body.put_slice(b"abc");
        body.put_u16(0);
        let message = Message {
            tag: b'B',
            body: body.freeze(),
        };
        let Ok(Asked::Bind {
            portal,
            statement,
            parameters,
        }) = read(&message)
        else {
            panic!("a Bind")
        };
        assert_eq!((portal, statement), ("p", "s"));
        assert_eq!(parameters, [(1, None), (1, Some(&b"abc"[..]))]);
    }

    #[test]
    fn nothing_hides_behind_the_end_of_a_message() {
        let body = Bytes::from_static(b"select 1\0drop table t\0");
        assert!(read(&Message { tag: b'Q', body }).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(tag: u8, body: Vec<u8>) {
            let _ = read(&Message { tag, body: body.into() });
        }
    }
}
