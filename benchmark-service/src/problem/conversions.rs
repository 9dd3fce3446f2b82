//! Converts the errors of other layers into problems.

use shared_types::{Invalid, message};
use storage::{Refusal, StorageError};

use super::{FieldError, ID_TAKEN, NAME_TAKEN, Problem, REFUSED_BATCHES, UNPROCESSABLE, printable};
use crate::snapshot::unknown_metric;

impl Problem {
    /// Batches that were refused: 409 if the id of one is taken, else 422.
    pub(crate) fn refused_batches(refusals: Vec<(usize, Refusal)>, others_stored: usize) -> Self {
        let conflict = refusals
            .iter()
            .any(|(_, refusal)| matches!(refusal, Refusal::OtherContent { .. }));
        let kind = if conflict { ID_TAKEN } else { REFUSED_BATCHES };
        let refused = refusals
            .into_iter()
            .map(|(index, refusal)| invalid_of(refusal).within(&format!("[{index}]")))
            .collect();
        let mut problem = Self::refused(kind, refused);
        if others_stored > 0 {
            let detail = format!(
                "{}; other batches of the request, stored: {others_stored}",
                problem.0.detail
            );
            problem.0.detail = detail.into();
        }
        problem
    }
}

fn invalid_of(refusal: Refusal) -> Invalid {
    match refusal {
        Refusal::UnknownMetric { found, known } => unknown_metric(&found, known.iter()),
        Refusal::OtherUnit {
            metric,
            found,
            expected,
        } => Invalid::new("unit", found, format!("{expected}, the unit of {metric}")),
        Refusal::OtherContent { id } => Invalid::new(
            "id",
            format_args!("{id} with other content"),
            "the content that was stored under this id before",
        ),
        Refusal::TooOld { found, retained_from } => Invalid::new(
            "timestamp",
            found,
            format!("{retained_from} or later: older batches are not kept"),
        ),
    }
}

impl From<Invalid> for FieldError {
    fn from(
        Invalid {
            field,
            found,
            expected,
        }: Invalid,
    ) -> Self {
        let printable = |text: String| printable(text.into()).into_owned();
        Self {
            field: printable(field),
            found: printable(found),
            expected: printable(expected),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(refused: Invalid) -> Self {
        Self::invalid(vec![refused])
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        let problem = match &error {
            StorageError::Unavailable { .. } | StorageError::Rebuilding => {
                Self::database_unavailable("nothing is wrong with the request; send it again later")
            }
            StorageError::Fault { .. } => return Self::internal(error),
            StorageError::NameTaken { .. } => Self::new(NAME_TAKEN, error.to_string()),
            StorageError::NotFound { .. } => Self::not_found(error.to_string()),
            StorageError::Invalid(refused) => Self::unprocessable(vec![refused.clone()]),
        };
        problem.caused_by(error)
    }
}

impl From<message::DecodeError> for Problem {
    fn from(error: message::DecodeError) -> Self {
        match error {
            message::DecodeError::TooLarge { .. } => Self::too_large(message::MAX_BODY_BYTES),
            message::DecodeError::Json { .. } => Self::malformed(error.to_string()),
            message::DecodeError::Invalid(refused) => Self::unprocessable(vec![refused]),
            message::DecodeError::NoBatches | message::DecodeError::TooManyBatches { .. } => {
                Self::new(UNPROCESSABLE, error.to_string())
            }
        }
    }
}
