-- Take a run back: what it alone has stated goes, what somebody else has stated too is theirs from now on. Writers wait,
-- as the statements of a run lie all over the graph.
--
-- Raises ID004 if the run does not exist, is undone already, or is not the newest; ID005 if it is at work.
CREATE OR REPLACE FUNCTION undo_run(run bigint, command bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    key_of_run bigint;
    touched text[];
    roots bigint[];
    moment timestamptz;
BEGIN
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    SELECT lock_key INTO key_of_run FROM import_run WHERE id = run AND status <> 'undone' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such run to undo' USING ERRCODE = 'ID004';
    END IF;
    PERFORM FROM import_run WHERE id > run AND status <> 'undone';
    IF FOUND THEN
        RAISE EXCEPTION 'a newer run has to be undone first' USING ERRCODE = 'ID004';
    END IF;
    IF NOT pg_try_advisory_xact_lock(key_of_run) THEN
        RAISE EXCEPTION 'the run is at work' USING ERRCODE = 'ID005';
    END IF;

    touched := ARRAY(
        SELECT value FROM (
            SELECT email AS value FROM contact WHERE run_id = run
            UNION SELECT phone_number FROM contact WHERE run_id = run
            UNION SELECT email FROM set_aside_contact WHERE run_id = run
            UNION SELECT phone_number FROM set_aside_contact WHERE run_id = run
            UNION SELECT value FROM link_evidence WHERE run_id = run
            UNION SELECT other_value FROM link_evidence WHERE run_id = run
        ) AS stated
        WHERE value IS NOT NULL
    );
    DELETE FROM restatement WHERE run_id = run;
    moment := clock_timestamp();
    INSERT INTO former_evidence (evidence_id, replaced_at, primary_id, merged_id, run_id, line, created_at, stored_in,
                                 value, other_value, is_held)
    SELECT id, moment, primary_id, merged_id, run_id, line, created_at, stored_in, value, other_value, is_held
    FROM link_evidence WHERE run_id = run;
    UPDATE link_evidence AS e SET
        run_id = r.run_id, line = r.line, created_at = r.created_at, stored_in = written_in(stored_in, e.xmin)
    FROM restatement AS r WHERE e.run_id = run AND r.value = e.value AND r.other_value = e.other_value;
    WITH restated AS MATERIALIZED (
        SELECT fact.id, r.run_id, r.line, r.created_at
        FROM (
            SELECT c.id, coalesce(s.email, s.phone_number, c.email, c.phone_number) AS value,
                   CASE WHEN s.id IS NULL AND c.email IS NOT NULL THEN c.phone_number
                        WHEN s.email IS NOT NULL THEN s.phone_number END AS other_value
            FROM contact AS c LEFT JOIN set_aside_contact AS s USING (id) WHERE c.run_id = run
        ) AS fact
        JOIN restatement AS r ON r.value = fact.value AND r.other_value = coalesce(fact.other_value, '')
    ), former AS (
        INSERT INTO former_contact (contact_id, primary_id, next_primary_id, command_id, replaced_at, contact_mark,
                                    evidence_mark, initial_linked_id, run_id, line, created_at, updated_at, stored_in,
                                    anchors_email, anchors_phone, email, phone_number)
        SELECT c.id, coalesce(linked_id, c.id), coalesce(linked_id, c.id), command, moment, last_id('contact'),
               last_id('link_evidence'), initial_linked_id, c.run_id, c.line, c.created_at, updated_at, stored_in,
               anchors_email, anchors_phone, email, phone_number
        FROM restated JOIN contact AS c USING (id)
    )
    UPDATE contact AS c SET run_id = r.run_id, line = r.line, created_at = r.created_at, updated_at = moment
    FROM restated AS r WHERE c.id = r.id;
    UPDATE set_aside_contact AS s SET run_id = r.run_id, line = r.line, created_at = r.created_at
    FROM restatement AS r
    WHERE s.run_id = run AND r.value = coalesce(s.email, s.phone_number)
        AND r.other_value = CASE WHEN s.email IS NULL THEN '' ELSE coalesce(s.phone_number, '') END;

    roots := lock_identities(touched);
    PERFORM keep_merges(ARRAY(SELECT id FROM link_evidence WHERE run_id = run));
    DELETE FROM link_evidence WHERE run_id = run;
    DELETE FROM set_aside_contact WHERE run_id = run;
    PERFORM keep_stated_values(touched, roots, run);
    PERFORM rework(roots, touched, command, '{}', run);
    UPDATE import_run SET status = 'undone' WHERE id = run;
    PERFORM recount_partners();
    PERFORM apply_hub_limits(command);
END $$;

-- Write the merges of evidence that is about to be deleted into the history.
CREATE OR REPLACE FUNCTION keep_merges(evidence_ids bigint[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO contact_move (contact_id, from_primary_id, to_primary_id, moved_at)
    SELECT merged_id, merged_id, primary_id, created_at
    FROM link_evidence WHERE id = ANY (evidence_ids) AND merged_id IS NOT NULL
    ORDER BY id
$$;

-- Give a contact to each of these values that is still stated, alone or by blocked evidence, and that only contacts of the
-- run were stored with.
CREATE OR REPLACE FUNCTION keep_stated_values(of_values text[], roots bigint[], gone_run bigint) RETURNS void
LANGUAGE sql
SET plan_cache_mode = 'force_custom_plan'
AS $$
    WITH remaining AS MATERIALIZED (
        SELECT email, phone_number FROM contact
        WHERE (id = ANY (roots) OR linked_id = ANY (roots)) AND id > 0 AND run_id IS DISTINCT FROM gone_run
        UNION ALL
        SELECT email, phone_number FROM set_aside_contact
        WHERE email = ANY (of_values) OR phone_number = ANY (of_values)
    ), uncarried AS MATERIALIZED (
        SELECT unnest(of_values) AS value
        EXCEPT SELECT email FROM remaining
        EXCEPT SELECT phone_number FROM remaining
    ), statement AS (
        SELECT u.value, r.run_id, r.line, r.created_at
        FROM uncarried AS u JOIN restatement AS r ON r.value = u.value AND r.other_value = ''
        UNION ALL
        SELECT u.value, e.run_id, e.line, e.created_at
        FROM uncarried AS u JOIN link_evidence AS e ON e.is_held AND u.value = e.value
        UNION ALL
        SELECT u.value, e.run_id, e.line, e.created_at
        FROM uncarried AS u JOIN link_evidence AS e ON e.is_held AND u.value = e.other_value
    )
    INSERT INTO set_aside_contact (id, email, phone_number, anchors_email, anchors_phone, run_id, line, created_at)
    SELECT DISTINCT ON (value) nextval(pg_get_serial_sequence('contact', 'id')),
           CASE WHEN strpos(value, '@') > 0 THEN value END, CASE WHEN strpos(value, '@') = 0 THEN value END,
           strpos(value, '@') > 0, strpos(value, '@') = 0, run_id, line, created_at
    FROM statement
    ORDER BY value, created_at
$$;
