//! What every backend must do, as cases that each backend runs as tests of its own.
//!
//! A backend's test writes `storage_conformance::conformance_tests!(open);` where `open` is an async function that gives
//! `Result<(Arc<dyn Storage>, T), BoxError>`: an empty database of its own and whatever must live as long. A case that is written and not
//! listed below is dead code, which the compiler reports.

mod archive;
mod concurrency;
mod dead_letter_log;
pub mod direct_access;
mod ledger;
mod maintenance;
mod outbox;
mod rebuild;
mod reconciliation;
mod registry;
mod retention;
pub mod samples;
mod statistics;

use std::sync::Arc;

use storage::{BoxError, Storage};

/// An empty, not yet migrated database.
pub type Empty = Arc<dyn Storage>;

/// What a case ends with.
pub type Outcome = Result<(), BoxError>;

macro_rules! cases {
    ($dollar:tt $($module:ident { $($case:ident),+ $(,)? })+) => {
        /// The cases, one function each.
        pub mod cases {
            $($(
                #[doc = concat!("`", stringify!($module), "`: ", stringify!($case))]
                ///
                /// # Errors
                /// Those of the storage.
                ///
                /// # Panics
                /// The backend does not do what it must.
                pub async fn $case(storage: super::Empty) -> super::Outcome {
                    super::$module::$case(storage).await
                }
            )+)+
        }

        /// Every case as a test of its own, on what the given async function opens.
        #[macro_export]
        macro_rules! conformance_tests {
            ($dollar open:path) => {
                $($(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() -> $dollar crate::Outcome {
                        let (storage, _kept) = $dollar open().await?;
                        $dollar crate::cases::$case(storage).await
                    }
                )+)+
            };
        }
    };
}

cases! { $
    registry {
        seeding_fills_empty_tables_once,
        seeding_leaves_tables_with_rows_alone,
        concurrent_seeding_seeds_once,
        llms_are_created_changed_and_archived,
        metrics_are_created_changed_and_archived,
        archived_names_come_back_as_the_same_row,
        changes_that_make_bounds_invalid_are_refused,
    }
    outbox {
        nothing_to_record_is_nothing,
        new_batches_are_stored_and_queued,
        a_repetition_is_told_apart_from_other_content,
        a_batch_twice_in_one_call_is_stored_once,
        batches_that_can_never_be_stored_are_refused,
        unknown_llms_are_registered,
        a_stored_batch_stays_admitted_when_its_metric_changes_unit,
        hundreds_of_batches_are_recorded_in_one_call,
        claims_come_oldest_first_and_once,
        claims_lapse_and_confirmed_batches_do_not_come_back,
        young_batches_are_left_to_their_producer,
    }
    ledger {
        nothing_to_apply_is_nothing,
        new_batches_are_counted_and_redeliveries_are_not,
        a_batch_twice_in_one_call_counts_once,
        batches_of_other_producers_are_stored,
        batches_that_can_never_be_counted_are_refused,
        archived_llms_and_metrics_still_count,
        refused_batches_do_not_keep_others_from_counting,
    }
    statistics {
        statistics_are_the_direct_fold_of_the_values,
        changes_are_given_once,
        hours_before_the_horizon_are_left_out,
        history_has_the_hours_asked_for,
        a_rebuild_changes_nothing_where_nothing_is_wrong,
        a_rebuild_starts_a_new_generation,
        the_rebuild_of_nothing_is_nothing,
        unusual_doubles_are_kept_bit_for_bit,
    }
    rebuild {
        nothing_is_counted_while_a_rebuild_goes_on,
        consumers_and_rebuilds_agree,
    }
    reconciliation {
        what_the_broker_lost_is_requeued,
        what_is_on_its_way_is_not_requeued,
        batches_are_requeued_oldest_first_up_to_the_limit,
        what_stays_uncounted_waits_before_it_is_requeued_again,
        concurrent_reconcilers_requeue_once,
        the_audit_of_nothing_finds_nothing,
        an_audit_looks_at_everything_in_whole_hours,
        audits_beside_consumers_find_nothing,
        the_first_and_the_last_of_all_ids_are_folded_like_any_other,
    }
    retention {
        pruned_batches_are_gone_and_stay_counted,
        what_is_too_old_to_be_known_is_refused,
        pruning_goes_on_where_the_limit_stopped_it,
        hours_with_uncounted_batches_are_kept,
        the_limit_of_what_is_kept_never_goes_back,
        a_clock_that_is_ahead_deletes_nothing,
        pruning_beside_consumers_counts_nothing_twice,
        pruning_beside_consumers_refuses_nothing_that_was_stored,
        pruning_beside_producers_strands_nothing,
        pruning_and_rebuilding_take_turns,
    }
    dead_letter_log {
        dead_letters_leave_a_trail,
        whatever_a_dead_letter_says_can_be_noted,
        dead_letters_are_done_once,
    }
    archive {
        pages_have_neither_gaps_nor_repeats,
        filters_restrict,
        a_batch_is_read_back_bit_for_bit,
        the_largest_batch_is_kept,
    }
    maintenance {
        migrating_is_idempotent,
        concurrent_migrations_apply_each_once,
        a_database_without_tables_is_a_fault,
        rights_are_not_given_to_nobody,
        a_ping_is_answered,
        api_keys_are_kept_and_revoked,
        the_first_seed_stays,
        ticks_are_taken_once,
    }
    concurrency {
        concurrent_consumers_count_exactly,
        concurrent_producers_store_once,
        concurrent_sweepers_get_different_batches,
        a_reader_misses_no_change,
        readers_see_all_of_a_rebuild_or_nothing,
    }
}
