//! From a verb and a path to a method: one tree of path segments for each host.

use std::collections::HashSet;

use super::table::{Damaged, Method};

/// More segments than this are not looked at; the longest template has under 30, and a `**` spans a few.
const MAX_SEGMENTS: usize = 256;

/// A method, if there is one.
pub type Found<'c> = Option<&'c Method>;

/// The methods one host serves.
pub struct Service {
    /// The host of the API's root URL.
    pub host: &'static str,
    nodes: Vec<Node>,
    /// What follows a colon in some last segment: `access`, `setIamPolicy`.
    custom_verbs: HashSet<&'static str>,
}

#[derive(Default)]
struct Node {
    fixed: Vec<(&'static str, usize)>,
    one: Option<usize>,
    many: Option<usize>,
    ends: Vec<End>,
}

struct End {
    verb: &'static str,
    custom_verb: &'static str,
    id: &'static str,
    method: usize,
}

enum Segment {
    Fixed(&'static str),
    One(&'static str),
    Many(&'static str),
}

impl Service {
    pub(super) fn new(host: &'static str) -> Self {
        Self {
            host,
            nodes: vec![Node::default()],
            custom_verbs: HashSet::new(),
        }
    }

    /// Whether some method of this host ends in `:verb`.
    #[must_use]
    pub fn has_custom_verb(&self, verb: &str) -> bool {
        self.custom_verbs.contains(verb)
    }

    pub(super) fn add(&mut self, method: &Method, index: usize) -> Result<(), Damaged> {
        let mut node = 0;
        let mut custom_verb = "";
        for text in method.template.split('/') {
            let segment = Segment::parse(text);
            let (Segment::Fixed(name) | Segment::One(name) | Segment::Many(name)) = segment;
            if let Segment::Fixed(text) = segment {
                custom_verb = "";
                if let Some((_, verb)) = text.rsplit_once(':') {
                    self.custom_verbs.insert(verb);
                }
            } else {
                custom_verb = name;
            }
            node = self.child(node, &segment);
        }
        if !custom_verb.is_empty() {
            self.custom_verbs.insert(custom_verb);
        }
        let end = End {
            verb: method.verb,
            custom_verb,
            id: method.id,
            method: index,
        };
        let ends = &mut self.nodes[node].ends;
        if let Some(known) = ends
            .iter()
            .find(|known| known.answers(end.verb, custom_verb))
        {
            let (id, template) = (method.id, method.template);
            // The shared host serves some methods that two documents list.
            return if known.id == id {
                Ok(())
            } else {
                Err(Damaged(format!(
                    "{id} collides with {} at {template}",
                    known.id
                )))
            };
        }
        ends.push(end);
        Ok(())
    }

    fn child(&mut self, node: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let parent = &mut self.nodes[node];
        let child = match segment {
            Segment::Fixed(text) => match parent.fixed.binary_search_by_key(text, |(key, _)| key) {
                Ok(place) => parent.fixed[place].1,
                Err(place) => {
                    parent.fixed.insert(place, (text, new));
                    new
                }
            },
            Segment::One(_) => *parent.one.get_or_insert(new),
            Segment::Many(_) => *parent.many.get_or_insert(new),
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    pub(super) fn find(&self, verb: &str, segments: &[&str]) -> Option<usize> {
        if segments.len() > MAX_SEGMENTS {
            return None;
        }
        self.descend(0, verb, segments)
    }

    /// Fixed text before one segment before many: the most specific template wins.
    fn descend(&self, node: usize, verb: &str, segments: &[&str]) -> Option<usize> {
        let node = &self.nodes[node];
        let (first, rest) = segments.split_first()?;
        self.fixed(node, first, verb, rest)
            .or_else(|| {
                node.one
                    .and_then(|child| self.variable(child, verb, first, rest))
            })
            .or_else(|| node.many.and_then(|child| self.many(child, verb, segments)))
    }

    fn fixed(&self, node: &Node, first: &str, verb: &str, rest: &[&str]) -> Option<usize> {
        let place = node
            .fixed
            .binary_search_by_key(&first, |(key, _)| key)
            .ok()?;
        let child = node.fixed[place].1;
        match rest {
            [] => self.nodes[child].end(verb, ""),
            _ => self.descend(child, verb, rest),
        }
    }

    fn variable(&self, node: usize, verb: &str, last: &str, rest: &[&str]) -> Option<usize> {
        if !rest.is_empty() {
            return self.descend(node, verb, rest);
        }
        if let Some((name, custom)) = last.rsplit_once(':')
            && self.custom_verbs.contains(custom)
        {
            // A colon before a verb of this API is never part of a name.
            let named = !name.is_empty();
            return named.then(|| self.nodes[node].end(verb, custom)).flatten();
        }
        self.nodes[node].end(verb, "")
    }

    /// A template with something behind its `**` is more specific than one that ends there.
    fn many(&self, node: usize, verb: &str, segments: &[&str]) -> Option<usize> {
        let shorter = (1..segments.len()).rev();
        shorter.chain([segments.len()]).find_map(|taken| {
            let (span, rest) = segments.split_at(taken);
            let last = span.last()?;
            self.variable(node, verb, last, rest)
        })
    }
}

impl Node {
    fn end(&self, verb: &str, custom_verb: &str) -> Option<usize> {
        let end = self
            .ends
            .iter()
            .find(|end| end.answers(verb, custom_verb))?;
        Some(end.method)
    }
}

impl End {
    fn answers(&self, verb: &str, custom_verb: &str) -> bool {
        self.verb == verb && self.custom_verb == custom_verb
    }
}

impl Segment {
    /// The text of a variable is the custom verb behind it, if any.
    fn parse(text: &'static str) -> Self {
        let Some((variable, custom_verb)) = text.strip_prefix('{').and_then(|t| t.split_once('}'))
        else {
            return Self::Fixed(text);
        };
        let custom_verb = custom_verb.strip_prefix(':').unwrap_or_default();
        if variable.ends_with("=**") {
            Self::Many(custom_verb)
        } else {
            Self::One(custom_verb)
        }
    }
}
