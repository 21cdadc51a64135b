//! One look over a text for everything a set knows by its form.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use zeroize::Zeroizing;

use super::{
    Builtin,
    fields::Hint,
    formats::{ANCHORS, Anchored, Seen, email, numbers},
    names,
};

/// Nothing that is shorter is found by its form, in bytes.
pub(super) const SHORTEST: usize = 4;

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Where.
    pub(super) at: Range<usize>,
    /// By which of the set's detectors.
    pub(super) detector: u16,
    /// It may go on behind the end of the text: a key's end is missing.
    pub(super) open: bool,
}

/// Where a text stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context {
    /// What the field's name says.
    pub(super) hint: Hint,
    /// Running text, where `password: x` may begin a line.
    pub(super) prose: bool,
}

impl Context {
    /// Of the value of a header, a parameter or a column of this name.
    pub(super) fn of_value(name: &str) -> Self {
        let mut plain = Vec::with_capacity(name.len());
        names::normalise(name.as_bytes(), &mut plain);
        Self {
            hint: Hint::of(&plain),
            prose: false,
        }
    }
}

/// The detectors that look at values, ready to look.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    anchors: Option<AhoCorasick>,
    /// What each pattern of `anchors` leads to.
    anchored: Vec<(Anchored, u16)>,
    email: Option<u16>,
    numbers: numbers::Wanted,
    regexes: Vec<(regex::bytes::Regex, u16)>,
    literals: Option<Literals>,
}

impl Finder {
    /// For built-in detectors and own expressions and texts, each with its index in the set.
    pub(super) fn new(
        builtins: &[(Builtin, u16)],
        regexes: Vec<(regex::bytes::Regex, u16)>,
        literals: Vec<(Zeroizing<Vec<u8>>, u16)>,
    ) -> Self {
        let index = |builtin| {
            let mut found = builtins.iter().filter(|(other, _)| *other == builtin);
            found.next().map(|(_, index)| *index)
        };
        let anchored: Vec<(&str, Anchored, u16)> = ANCHORS
            .iter()
            .filter_map(|(text, builtin, look)| Some((*text, *look, index(*builtin)?)))
            .collect();
        Self {
            anchors: automaton(anchored.iter().map(|(text, ..)| text)),
            anchored: anchored
                .into_iter()
                .map(|(_, look, index)| (look, index))
                .collect(),
            email: index(Builtin::Email),
            numbers: numbers::Wanted {
                phone: index(Builtin::Phone),
                iban: index(Builtin::Iban),
                card: index(Builtin::Card),
                ssn: index(Builtin::UsSsn),
            },
            regexes,
            literals: Literals::new(literals),
        }
    }

    /// Whether it looks for nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.anchors.is_none() && self.email.is_none() && !self.looks_at_numbers()
    }

    /// Whether it looks for anything made of digits.
    pub(super) fn looks_at_numbers(&self) -> bool {
        self.numbers.any() || self.looks_for_own()
    }

    /// Whether it looks for own texts or expressions.
    pub(super) fn looks_for_own(&self) -> bool {
        !self.regexes.is_empty() || self.literals.is_some()
    }

    /// Everything found in `text`, in order, without overlaps: what overlaps is one hit.
    pub(super) fn find(&self, text: &[u8], context: Context, hits: &mut Vec<Hit>) {
        hits.clear();
        self.find_anchored(text, context, hits);
        if let Some(detector) = self.email {
            email::find(text, |at| hits.push(Hit::closed(at, detector)));
        }
        if self.numbers.any() {
            numbers::find(text, context.hint, &self.numbers, |at, detector| {
                hits.push(Hit::closed(at, detector));
            });
        }
        for (regex, detector) in &self.regexes {
            let found = regex
                .captures_iter(text)
                .filter_map(|captures| captures.get(1).or(captures.get(0)));
            hits.extend(
                found
                    .filter(|found| !found.is_empty())
                    .map(|found| Hit::closed(found.range(), *detector)),
            );
        }
        if let Some(literals) = &self.literals {
            literals.find(text, hits);
        }
        if hits.len() > 1 {
            join(hits);
        }
    }

    fn find_anchored(&self, text: &[u8], context: Context, hits: &mut Vec<Hit>) {
        let Some(anchors) = &self.anchors else { return };
        // What was looked at in vain need not be looked at again from an anchor in the middle of it.
        let mut looked_to = [0; Builtin::ALL.len()];
        for found in anchors.find_overlapping_iter(text) {
            let (look, detector) = self.anchored[found.pattern().as_usize()];
            let looked_to = &mut looked_to[usize::from(detector) % Builtin::ALL.len()];
            if found.start() < *looked_to {
                continue;
            }
            match look(text, found.range(), context) {
                Seen::Hit(at) => {
                    *looked_to = at.end;
                    hits.push(Hit::closed(at, detector));
                }
                Seen::Open(from) => {
                    *looked_to = text.len();
                    hits.push(Hit {
                        at: from..text.len(),
                        detector,
                        open: true,
                    });
                }
                Seen::NothingTo(end) => *looked_to = end,
                Seen::Nothing => {}
            }
        }
    }
}

impl Hit {
    fn closed(at: Range<usize>, detector: u16) -> Self {
        Self {
            at,
            detector,
            open: false,
        }
    }
}

/// Sorts, and makes one hit of those that overlap, by the name of the first.
pub(super) fn join(hits: &mut Vec<Hit>) {
    hits.sort_by_key(|hit| (hit.at.start, usize::MAX - hit.at.end));
    hits.dedup_by(|next, before| {
        let overlap = next.at.start < before.at.end;
        if overlap && next.at.end > before.at.end {
            before.at.end = next.at.end;
            before.open = next.open;
        }
        overlap
    });
}

fn automaton<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Option<AhoCorasick> {
    let patterns: Vec<P> = patterns.into_iter().collect();
    if patterns.is_empty() {
        return None;
    }
    let built = AhoCorasickBuilder::new()
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(true)
        .build(patterns);
    Some(built.expect("some short patterns make an automaton"))
}

/// Known texts. The automaton knows their beginnings alone: it cannot be wiped, the texts can.
#[derive(Clone, Debug)]
pub(super) struct Literals {
    beginnings: AhoCorasick,
    texts: std::sync::Arc<[Literal]>,
}

struct Literal {
    text: Zeroizing<Vec<u8>>,
    detector: u16,
}

impl std::fmt::Debug for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Literal(for detector {})", self.detector)
    }
}

/// Bytes of a literal that the automaton looks for.
const BEGINNING: usize = 4;
/// Shorter ones have to stand alone: they would be found inside of words.
const STANDS_ALONE: usize = 8;

impl Literals {
    /// `None` when there are none.
    pub(super) fn new(texts: Vec<(Zeroizing<Vec<u8>>, u16)>) -> Option<Self> {
        let texts: Vec<Literal> = texts
            .into_iter()
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, detector)| Literal { text, detector })
            .collect();
        let beginnings = texts
            .iter()
            .map(|literal| &literal.text[..literal.text.len().min(BEGINNING)]);
        Some(Self {
            beginnings: automaton(beginnings)?,
            texts: texts.into(),
        })
    }

    pub(super) fn find(&self, text: &[u8], hits: &mut Vec<Hit>) {
        for found in self.beginnings.find_overlapping_iter(text) {
            let literal = &self.texts[found.pattern().as_usize()];
            let at = found.start()..found.start() + literal.text.len();
            if text.get(at.clone()) == Some(literal.text.as_slice())
                && (literal.text.len() >= STANDS_ALONE || stands_alone(text, &at))
            {
                hits.push(Hit::closed(at, literal.detector));
            }
        }
    }
}

fn stands_alone(text: &[u8], at: &Range<usize>) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    !is_word(at.start.checked_sub(1).and_then(|before| text.get(before)))
        && !is_word(text.get(at.end))
}
