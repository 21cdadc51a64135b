//! Text, line by line.

use memchr::memmem;
use zeroize::Zeroizing;

use super::{
    super::{Context, Hint, formats::BLOCK_END},
    Unreadable, WINDOW, Worker,
    stretch::Stretches,
};

const PROSE: Context = Context {
    hint: Hint::None,
    prose: true,
};

/// Lines are given out as they end, so that a log that is followed goes on. A key's block, which has several, is held together.
#[derive(Default)]
pub(super) struct Text {
    state: State,
    carry: Zeroizing<Vec<u8>>,
    begun: bool,
}

#[derive(Default)]
enum State {
    /// `carry` is the beginning of a line.
    #[default]
    Line,
    /// `carry` is the beginning of a key's block, its last line from here on.
    Block { line: usize },
    /// A line that is longer than is looked at together.
    LongLine(Stretches),
    /// The same for a block: nothing is given out before the end of the line that ends it. `carry` has the end of what came.
    LongBlock,
}

impl Text {
    pub(super) fn push(
        &mut self,
        mut input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        self.check(input)?;
        while !input.is_empty() {
            let end = memchr::memchr(b'\n', input);
            let (piece, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
            input = rest;
            self.piece(piece, end.is_some(), worker, out);
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, worker: &mut Worker, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.state) {
            State::Line | State::Block { .. } => {
                worker.look(&self.carry, PROSE);
                worker.write(&self.carry, |part, _| out.extend_from_slice(part));
            }
            State::LongLine(long) => {
                long.finish(worker, &mut |part| out.extend_from_slice(part));
            }
            State::LongBlock => {}
        }
    }

    /// UTF-16 and other encodings with NUL bytes would be read as something else than they are.
    fn check(&mut self, input: &[u8]) -> Result<(), Unreadable> {
        if memchr::memchr(0, input).is_some() {
            return Err(Unreadable::Encoding);
        }
        let is_first = !self.begun && !input.is_empty();
        self.begun |= is_first;
        if is_first && matches!(input[0], 0xfe | 0xff) {
            return Err(Unreadable::Encoding);
        }
        Ok(())
    }

    /// A piece of a line, with its end or without.
    fn piece(&mut self, piece: &[u8], ends: bool, worker: &mut Worker, out: &mut Vec<u8>) {
        let mut emit = |part: &[u8]| out.extend_from_slice(part);
        self.state = match std::mem::take(&mut self.state) {
            State::Line if ends && self.carry.is_empty() && piece.len() <= WINDOW => {
                // Most lines: nothing is copied.
                if is_open(worker, piece) {
                    self.carry.extend_from_slice(piece);
                    State::Block {
                        line: self.carry.len(),
                    }
                } else {
                    worker.write(piece, |part, _| emit(part));
                    State::Line
                }
            }
            State::Line => {
                self.carry.extend_from_slice(piece);
                if self.carry.len() > WINDOW {
                    let mut long = Stretches::new(PROSE);
                    long.push(&self.carry, worker, &mut emit);
                    self.carry.clear();
                    after_long_line(long, ends, worker, &mut emit)
                } else if !ends {
                    State::Line
                } else if is_open(worker, &self.carry) {
                    State::Block {
                        line: self.carry.len(),
                    }
                } else {
                    worker.write(&self.carry, |part, _| emit(part));
                    self.carry.clear();
                    State::Line
                }
            }
            State::Block { line } => {
                self.carry.extend_from_slice(piece);
                if self.carry.len() > WINDOW {
                    worker.look(&self.carry[..line], PROSE);
                    worker.write(&self.carry[..line], |part, _| emit(part));
                    self.carry.drain(..line);
                    self.in_long_block(ends)
                } else if !ends {
                    State::Block { line }
                } else if memmem::find(&self.carry[line..], BLOCK_END).is_none()
                    || is_open(worker, &self.carry)
                {
                    State::Block {
                        line: self.carry.len(),
                    }
                } else {
                    worker.write(&self.carry, |part, _| emit(part));
                    self.carry.clear();
                    State::Line
                }
            }
            State::LongLine(mut long) => {
                long.push(piece, worker, &mut emit);
                after_long_line(long, ends, worker, &mut emit)
            }
            State::LongBlock => {
                self.carry.extend_from_slice(piece);
                self.in_long_block(ends)
            }
        }
    }

    fn in_long_block(&mut self, ends: bool) -> State {
        let is_over = memmem::find(&self.carry, BLOCK_END).is_some();
        if ends {
            self.carry.clear();
            return if is_over {
                State::Line
            } else {
                State::LongBlock
            };
        }
        // Of a line that ends the block that much is remembered, of another one as much as may begin it.
        if is_over {
            self.carry.clear();
            self.carry.extend_from_slice(BLOCK_END);
        } else {
            let enough = self.carry.len().saturating_sub(BLOCK_END.len() - 1);
            self.carry.drain(..enough);
        }
        State::LongBlock
    }
}

fn after_long_line(
    long: Stretches,
    ends: bool,
    worker: &mut Worker,
    emit: &mut impl FnMut(&[u8]),
) -> State {
    if !ends {
        return State::LongLine(long);
    }
    if long.finish(worker, emit) {
        State::LongBlock
    } else {
        State::Line
    }
}

/// Looks at lines; whether a block begins in them that does not end in them.
fn is_open(worker: &mut Worker, lines: &[u8]) -> bool {
    worker.look(lines, PROSE);
    worker.hits().last().is_some_and(|hit| hit.open)
}
