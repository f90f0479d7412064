//! Where a chain's records are: what is asked, and the answer's shape.

use lockstep_core::record::RecordBody;
use lockstep_core::types::{ChainId, Height};

use super::{Field, chain, from_height};
use crate::error::InvalidMessage;
use crate::v1;

/// Heights of one answer.
pub const RECORD_HEIGHTS_MAX: u32 = 256;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A block was sealed.
    Sealed,
    /// The data-availability limits in force.
    Limits,
    /// A sequencer's word on co-executed bundles.
    Prepared,
}

/// At which heights a chain has records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeightsQuery {
    /// The chain.
    pub chain: ChainId,
    /// Which records.
    pub kind: RecordKind,
    /// Only heights below this one; `None` begins with the head.
    pub before: Option<Height>,
    /// At most so many heights, 1..=[`RECORD_HEIGHTS_MAX`].
    pub count: u32,
}

impl RecordKind {
    /// What this record says.
    #[must_use]
    pub const fn of(body: &RecordBody) -> Self {
        match body {
            RecordBody::Sealed(_) => Self::Sealed,
            RecordBody::Limits(_) => Self::Limits,
            RecordBody::Prepared(_) => Self::Prepared,
        }
    }
}

impl From<RecordKind> for v1::RecordKind {
    fn from(kind: RecordKind) -> Self {
        match kind {
            RecordKind::Sealed => Self::Sealed,
            RecordKind::Limits => Self::Limits,
            RecordKind::Prepared => Self::Prepared,
        }
    }
}

fn kind(field: Field, kind: i32) -> Result<RecordKind, InvalidMessage> {
    match v1::RecordKind::try_from(kind) {
        Ok(v1::RecordKind::Sealed) => Ok(RecordKind::Sealed),
        Ok(v1::RecordKind::Limits) => Ok(RecordKind::Limits),
        Ok(v1::RecordKind::Prepared) => Ok(RecordKind::Prepared),
        Ok(v1::RecordKind::Unspecified) => Err(field.missing()),
        Err(_) => Err(field.out_of_range(format!("{kind} is no kind of record"))),
    }
}

impl TryFrom<v1::GetRecordHeightsRequest> for RecordHeightsQuery {
    type Error = InvalidMessage;

    fn try_from(request: v1::GetRecordHeightsRequest) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "GetRecordHeightsRequest";
        let v1::GetRecordHeightsRequest { chain_id, kind: of, before_height, count } = request;
        let query = Self {
            chain: chain(MESSAGE, chain_id)?,
            kind: kind(Field(MESSAGE, "kind"), of)?,
            before: from_height(before_height),
            count,
        };
        if !(1..=RECORD_HEIGHTS_MAX).contains(&count) {
            let reason = format!("is {count}, expected 1..={RECORD_HEIGHTS_MAX}");
            return Err(Field(MESSAGE, "count").out_of_range(reason));
        }
        Ok(query)
    }
}

impl From<RecordHeightsQuery> for v1::GetRecordHeightsRequest {
    fn from(query: RecordHeightsQuery) -> Self {
        Self {
            chain_id: query.chain.0,
            kind: v1::RecordKind::from(query.kind).into(),
            before_height: query.before.map_or(0, |height| height.0),
            count: query.count,
        }
    }
}

impl RecordHeightsQuery {
    /// The answer's heights: as many as were asked for at most, strictly descending, from 1, below the one asked for.
    ///
    /// # Errors
    /// [`InvalidMessage`] of the field `heights`.
    pub fn answer(
        &self,
        response: &v1::GetRecordHeightsResponse,
    ) -> Result<Vec<Height>, InvalidMessage> {
        let field = Field("GetRecordHeightsResponse", "heights");
        let count_max = usize::try_from(self.count).unwrap_or(usize::MAX);
        field.counted(response.heights.len(), 0, count_max)?;
        let mut above = self.before;
        let mut heights = Vec::with_capacity(response.heights.len());
        for height in response.heights.iter().copied().map(Height) {
            if let Some(above) = above.filter(|above| height >= *above) {
                return Err(field.out_of_range(format!("{height} is not below {above}")));
            }
            field.positive(height.0)?;
            above = Some(height);
            heights.push(height);
        }
        Ok(heights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    const QUERY: RecordHeightsQuery = RecordHeightsQuery {
        chain: ChainId(901),
        kind: RecordKind::Limits,
        before: Some(Height(10)),
        count: 3,
    };

    #[test]
    fn a_query_survives_the_wire() {
        for (kind, before, count) in [
            (RecordKind::Sealed, None, 1),
            (RecordKind::Limits, Some(Height(1)), 9),
            (RecordKind::Prepared, None, RECORD_HEIGHTS_MAX),
        ] {
            let query = RecordHeightsQuery { kind, before, count, ..QUERY };
            let message = v1::GetRecordHeightsRequest::from(query);
            assert_eq!(RecordHeightsQuery::try_from(message), Ok(query));
        }
    }

    #[test]
    fn each_fault_of_a_query_is_named() {
        fn check(
            code: ErrorCode,
            field: &str,
            spoil: impl FnOnce(&mut v1::GetRecordHeightsRequest),
        ) {
            let mut message = v1::GetRecordHeightsRequest::from(QUERY);
            spoil(&mut message);
            let error = RecordHeightsQuery::try_from(message).unwrap_err();
            assert_eq!((error.code, error.field.as_str()), (code, field));
        }
        check(ErrorCode::Missing, "chain_id", |m| m.chain_id = 0);
        check(ErrorCode::Missing, "kind", |m| m.kind = 0);
        check(ErrorCode::OutOfRange, "kind", |m| m.kind = 4);
        check(ErrorCode::OutOfRange, "count", |m| m.count = 0);
        check(ErrorCode::OutOfRange, "count", |m| m.count = RECORD_HEIGHTS_MAX + 1);
    }

    #[test]
    fn an_answer_descends_below_what_was_asked_for() {
        let answer = |heights: &[u64]| {
            QUERY.answer(&v1::GetRecordHeightsResponse { heights: heights.to_vec() })
        };
        assert_eq!(answer(&[9, 4, 1]), Ok(vec![Height(9), Height(4), Height(1)]));
        assert_eq!(answer(&[]), Ok(vec![]));
        for wrong in [&[10][..], &[4, 4], &[3, 4], &[2, 0], &[9, 8, 7, 6]] {
            assert_eq!(answer(wrong).unwrap_err().field, "heights", "{wrong:?}");
        }
        let head = RecordHeightsQuery { before: None, ..QUERY };
        let message = v1::GetRecordHeightsResponse { heights: vec![u64::MAX] };
        assert_eq!(head.answer(&message), Ok(vec![Height(u64::MAX)]));
    }
}
