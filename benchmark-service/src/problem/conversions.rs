//! What the errors of other layers mean to a client.

use actix_web::http::StatusCode;
use shared_types::{Invalid, MetricTitle, message};
use storage::{Refusal, StorageError};

use super::{FieldError, Problem, printable};

impl Problem {
    /// Batches that were refused: 409 where an id is taken, else 422.
    pub(crate) fn refused_batches(refusals: Vec<(usize, Refusal)>, others_stored: usize) -> Self {
        let conflict = refusals
            .iter()
            .any(|(_, refusal)| matches!(refusal, Refusal::OtherContent { .. }));
        let (status, kind, title) = if conflict {
            (
                StatusCode::CONFLICT,
                "id-taken",
                "Another batch is stored under the same id",
            )
        } else {
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused-batches",
                "Batches were refused",
            )
        };
        let refused = refusals
            .into_iter()
            .map(|(index, refusal)| invalid_of(refusal).within(&format!("[{index}]")))
            .collect();
        let mut problem = Self::refused(status, kind, title, refused);
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
        Refusal::UnknownMetric { found, known } => {
            let known = known
                .iter()
                .map(MetricTitle::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            Invalid::new("metric", found, format!("one of {known}"))
        }
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
            StorageError::Unavailable { .. } => {
                Self::database_silent("nothing is wrong with the request; send it again later")
            }
            StorageError::Fault { .. } => return Self::internal(error),
            StorageError::NameTaken { .. } => Self::new(
                StatusCode::CONFLICT,
                "name-taken",
                "The name is taken",
                error.to_string(),
            ),
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
            message::DecodeError::NoBatches | message::DecodeError::TooManyBatches { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unprocessable",
                "The content is not acceptable",
                error.to_string(),
            ),
        }
    }
}
