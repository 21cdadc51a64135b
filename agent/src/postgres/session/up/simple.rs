//! Simple queries: one text, however many statements it has, and one ReadyForQuery.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use holdpoint_core::{
    refusal::Kind,
    sql::{Control, Parameter},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{POISON, Up, meaning::question};
use crate::postgres::{
    frame::{put, put_text},
    server_messages,
    session::{End, down::nothing_asked, judge::Judge, run::Run, state::Expected},
    statements::Definition,
};

impl<R, W, J> Up<'_, R, W, J>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    J: Judge,
{
    /// One text, admitted as a whole, and then sent as it came.
    pub(super) async fn query(&mut self, text: &str, whole: &Bytes) -> Result<(), End> {
        // What is known of the transaction, and of names, is what the server said last.
        self.settled(|state| state.expected.is_empty()).await?;
        if !self.send_parses(None).await? {
            return Ok(());
        }
        self.fresh.clear();
        let parsed = self.judge.parse(text);
        if parsed.statements.is_empty() {
            self.answer_query(nothing_asked());
            return Ok(());
        }
        let charge = match self.account_for(text) {
            Ok(charge) => charge,
            Err(told) => {
                self.answer_query(told);
                return Ok(());
            }
        };
        let text: Arc<str> = text.into();
        let definitions: Vec<_> = (0..parsed.statements.len())
            .map(|at| Definition::new(text.clone(), parsed.clone(), at, Arc::new([])))
            .map(|it| it.charged(charge.clone()))
            .collect();
        let none: Arc<[Parameter]> = Arc::new([]);
        let (was_open, before) = {
            let state = self.shared.lock();
            (state.status != b'I', state.asked)
        };
        let mut is_open = was_open;
        // What an earlier statement of the text prepares is what a later one executes.
        let mut made: HashMap<String, Definition> = HashMap::new();
        let mut questions = Vec::new();
        let mut meant = Vec::new();
        for definition in &definitions {
            meant.push(self.meant(definition, &made));
            if let Some(Control::Prepare { name, .. } | Control::DeclareCursor { name, .. }) =
                definition.statement().map(|it| &it.control)
            {
                made.insert(name.clone(), definition.clone());
            }
        }
        for (definition, meant) in definitions.iter().zip(&meant) {
            let Some(statement) = definition.statement() else {
                continue;
            };
            match statement.control {
                Control::Begin => is_open = true,
                Control::Commit { chain } | Control::Rollback { chain } => is_open = chain,
                _ => {}
            }
            questions.push(question(
                definition, statement, meant, &none, is_open, before,
            ));
        }
        match self.admit(&questions, was_open).await? {
            Ok(admitted) => {
                drop(questions);
                if let Some(refusal) = self.judge.objection(&admitted) {
                    let told = server_messages::refused(&refusal, &self.session, false);
                    self.answer_query(told);
                    return Ok(());
                }
                let mut run = Run::new(definitions, admitted);
                self.forgets(&run);
                self.shared.lock().retake_portals(&run);
                run.sending();
                self.send(whole, Expected::Query(run));
                Ok(())
            }
            Err(refusal) => {
                let too_long = was_open && refusal.kind == Kind::Pending;
                let told = server_messages::refused(&refusal, &self.session, too_long);
                if too_long {
                    let mut poison = BytesMut::new();
                    put(&mut poison, b'Q', |body| put_text(body, POISON));
                    self.send(&poison, Expected::Poison { told, query: true });
                } else {
                    self.answer_query(told);
                }
                Ok(())
            }
        }
    }
}
