-- Work identities out again from their evidence and the rules as they are now. Every command that changes a rule, an undo
-- and a hub that passes its limit come through here; the cost is that of the identities.
--
-- `roots` are the primaries of the identities, which the caller has locked (lock_identities); `more_values` are values
-- that are in no identity now, such as those just unblocked. Whatever these values are stated with must be in `roots`.
-- `gone_values` are erased, and so is what `gone_run` alone has stated.
--
-- A fact is the pair (or the value) that a contact was stored with (set_aside_contact has it where the contact shows
-- less), or a pair of link_evidence. A contact shows the values of its fact that may link, one of them if the pair may
-- not; an anchor stays the anchor of a value as long as it shows it. A value that no contact shows gets a new one.
--
-- What changes is kept as it was in former_contact and former_evidence, without the values that are erased.

CREATE OR REPLACE FUNCTION rework(
    roots bigint[],
    more_values text[],
    command bigint,
    gone_values text[] DEFAULT '{}',
    gone_run bigint DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
-- The arrays differ in size by orders of magnitude: each call is planned for its own. The planner knows their lengths, but
-- nothing of what a join of two of them returns; so the steps are statements of their own.
SET plan_cache_mode = 'force_custom_plan' SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    aside_ids bigint[];
    contacts reworked_contact[];
    pairs reworked_pair[];
    area text[];        -- the values of these identities, and more_values
    nodes text[];       -- those of them that may link
    lefts integer[];    -- the pairs that link, as places in nodes
    rights integer[];
    labels integer[];   -- for each node the lowest node of its component
    a integer;
    b integer;
    contact_mark bigint := last_id('contact');
    evidence_mark bigint := last_id('link_evidence');
    moment timestamptz := clock_timestamp();
BEGIN
    area := ARRAY(
        SELECT value FROM (
            SELECT email AS value FROM contact WHERE id = ANY (roots) AND anchors_email
            UNION ALL
            SELECT phone_number FROM contact WHERE id = ANY (roots) AND anchors_phone
            UNION ALL
            SELECT email FROM contact WHERE linked_id = ANY (roots) AND anchors_email
            UNION ALL
            SELECT phone_number FROM contact WHERE linked_id = ANY (roots) AND anchors_phone
            UNION
            SELECT unnest(more_values)
        ) AS own
        WHERE value IS NOT NULL
    );

    aside_ids := ARRAY(
        SELECT s.id FROM unnest(area) AS own (value),
            LATERAL (SELECT id FROM set_aside_contact WHERE email = own.value OFFSET 0) AS s
        UNION
        SELECT s.id FROM unnest(area) AS own (value),
            LATERAL (SELECT id FROM set_aside_contact WHERE phone_number = own.value OFFSET 0) AS s
        UNION
        SELECT s.id FROM contact AS c JOIN set_aside_contact AS s USING (id)
        WHERE c.id = ANY (roots) OR c.linked_id = ANY (roots)
    );
    WITH member AS MATERIALIZED (
        SELECT * FROM contact WHERE id = ANY (roots) AND id > 0
        UNION ALL
        SELECT * FROM contact WHERE linked_id = ANY (roots)
    ), aside AS MATERIALIZED (
        SELECT * FROM set_aside_contact WHERE id = ANY (aside_ids)
    ), stored AS (
        SELECT m.id,
               CASE WHEN s.id IS NULL THEN m.email ELSE s.email END AS email,
               CASE WHEN s.id IS NULL THEN m.phone_number ELSE s.phone_number END AS phone_number,
               CASE WHEN s.id IS NULL OR m.email IS NOT NULL THEN m.anchors_email ELSE s.anchors_email END
                   AS anchors_email,
               CASE WHEN s.id IS NULL OR m.phone_number IS NOT NULL THEN m.anchors_phone ELSE s.anchors_phone END
                   AS anchors_phone,
               m.initial_linked_id, m.run_id, m.line, m.created_at, s.id IS NOT NULL AS is_aside, false AS is_elsewhere,
               true AS was_shown, m.email AS was_email, m.phone_number AS was_phone_number,
               m.anchors_email AS was_anchors_email, m.anchors_phone AS was_anchors_phone, m.linked_id AS was_linked_id
        FROM member AS m LEFT JOIN aside AS s USING (id)
        UNION ALL
        SELECT s.id, s.email, s.phone_number, s.anchors_email, s.anchors_phone,
               s.initial_linked_id, s.run_id, s.line, s.created_at, true,
               EXISTS (SELECT FROM contact WHERE contact.id = s.id), false, NULL, NULL, NULL, NULL, NULL
        FROM aside AS s LEFT JOIN member AS m USING (id) WHERE m.id IS NULL
    ), remaining AS (
        SELECT *, run_id = gone_run IS TRUE AS is_gone FROM stored
    )
    SELECT array_agg(ROW(
               id,
               CASE WHEN NOT is_gone AND email <> ALL (gone_values) THEN email END,
               CASE WHEN NOT is_gone AND phone_number <> ALL (gone_values) THEN phone_number END,
               anchors_email, anchors_phone, initial_linked_id, run_id, line, created_at, is_aside, is_elsewhere,
               was_shown, was_email, was_phone_number, was_anchors_email, was_anchors_phone, was_linked_id,
               NULL, NULL, NULL
           )::reworked_contact)
    INTO contacts
    FROM remaining;

    SELECT array_agg(ROW(id, value, other_value, is_held, run_id, line, created_at, NULL)::reworked_pair)
    INTO pairs
    FROM (
        SELECT e.* FROM unnest(area) AS own (value),
            LATERAL (SELECT * FROM link_evidence WHERE link_evidence.value = own.value OFFSET 0) AS e
        UNION
        SELECT e.* FROM unnest(area) AS own (value),
            LATERAL (SELECT * FROM link_evidence WHERE other_value = own.value AND is_held OFFSET 0) AS e
    ) AS evidence;

    nodes := ARRAY(
        SELECT value FROM (
            SELECT unnest(area) AS value
            INTERSECT (
                SELECT email FROM unnest(contacts)
                UNION ALL SELECT phone_number FROM unnest(contacts)
                UNION ALL SELECT value FROM unnest(pairs)
                UNION ALL SELECT other_value FROM unnest(pairs)
            )
        ) AS stated
        WHERE NOT EXISTS (SELECT FROM blocked_value AS b WHERE b.value = stated.value)
        ORDER BY value
    );

    SELECT coalesce(array_agg(l.place::integer), '{}'), coalesce(array_agg(r.place::integer), '{}')
    INTO lefts, rights
    FROM (
        SELECT email AS value, phone_number AS other_value FROM unnest(contacts)
        UNION ALL
        SELECT value, other_value FROM unnest(pairs)
    ) AS pair
    JOIN unnest(nodes) WITH ORDINALITY AS l (value, place) ON l.value = pair.value
    JOIN unnest(nodes) WITH ORDINALITY AS r (value, place) ON r.value = pair.other_value
    WHERE NOT EXISTS (
        SELECT FROM unlinked_pair AS u WHERE u.value = pair.value AND u.other_value = pair.other_value
    );

    -- Union-find. A label is never higher than its place, so one pass in order leads each to its component's.
    labels := ARRAY(SELECT generate_series(1, cardinality(nodes)));
    FOR i IN 1 .. cardinality(lefts) LOOP
        a := lefts[i];
        b := rights[i];
        WHILE labels[a] <> a LOOP
            labels[a] := labels[labels[a]];
            a := labels[a];
        END LOOP;
        WHILE labels[b] <> b LOOP
            labels[b] := labels[labels[b]];
            b := labels[b];
        END LOOP;
        IF a < b THEN
            labels[b] := a;
        ELSE
            labels[a] := b;
        END IF;
    END LOOP;
    FOR i IN 1 .. cardinality(nodes) LOOP
        labels[i] := labels[labels[i]];
    END LOOP;

    SELECT array_agg(ROW(
               c.id, c.email, c.phone_number, anchors_email, anchors_phone, initial_linked_id, run_id, line, created_at,
               is_aside, is_elsewhere, was_shown, was_email, was_phone_number, was_anchors_email, was_anchors_phone,
               was_linked_id, e.label, p.label,
               EXISTS (SELECT FROM unlinked_pair AS u WHERE u.value = c.email AND u.other_value = c.phone_number)
           )::reworked_contact)
    INTO contacts
    FROM unnest(contacts) AS c
    LEFT JOIN unnest(nodes, labels) AS e (value, label) ON e.value = c.email
    LEFT JOIN unnest(nodes, labels) AS p (value, label) ON p.value = c.phone_number;

    SELECT array_agg(ROW(
               evidence_id, pair.value, pair.other_value, was_held, run_id, line, created_at,
               CASE WHEN r.label IS NOT NULL AND NOT EXISTS (
                   SELECT FROM unlinked_pair AS u WHERE u.value = pair.value AND u.other_value = pair.other_value
               ) THEN l.label END
           )::reworked_pair)
    INTO pairs
    FROM unnest(pairs) AS pair
    LEFT JOIN unnest(nodes, labels) AS l (value, label) ON l.value = pair.value
    LEFT JOIN unnest(nodes, labels) AS r (value, label) ON r.value = pair.other_value;

    IF rules_in_force() >= 2 THEN
        -- Their anchors may change, and with them what a missing row stands for.
        INSERT INTO partner_count (value, partners)
        SELECT was_email, 1 FROM unnest(contacts) WHERE was_anchors_email AND num_nonnulls(was_email, was_phone_number) = 2
        UNION ALL
        SELECT was_phone_number, 1 FROM unnest(contacts)
        WHERE was_anchors_phone AND num_nonnulls(was_email, was_phone_number) = 2
        ORDER BY 1
        ON CONFLICT DO NOTHING;
    END IF;

    -- The placeholders of values that link again: their contacts take over.
    DELETE FROM contact USING unnest(more_values) AS more (value)
    WHERE contact.id < 0 AND contact.email = more.value AND anchors_email AND more.value = ANY (nodes);
    DELETE FROM contact USING unnest(more_values) AS more (value)
    WHERE contact.id < 0 AND contact.phone_number = more.value AND anchors_phone AND more.value = ANY (nodes);

    -- One statement replaces the contacts that change: constraints and guards see the graph before and after only.
    WITH fact AS MATERIALIZED (
        SELECT * FROM unnest(contacts)
    ), showing AS MATERIALIZED (
        -- Of two values that are kept apart it shows the one that it anchors, the email if both.
        SELECT *,
               NOT is_elsewhere AND email_label IS NOT NULL AND (
                   phone_label IS NULL OR NOT is_unlinked OR anchors_email OR NOT anchors_phone) AS shows_email,
               NOT is_elsewhere AND phone_label IS NOT NULL AND (
                   email_label IS NULL OR NOT is_unlinked OR anchors_phone AND NOT anchors_email) AS shows_phone
        FROM fact
    ), carrier AS MATERIALIZED (
        SELECT email AS value, id, created_at,
               CASE WHEN was_email IS NOT NULL AND was_anchors_email THEN 0 WHEN anchors_email THEN 1 ELSE 2 END AS rank
        FROM showing WHERE shows_email
        UNION ALL
        SELECT phone_number, id, created_at,
               CASE WHEN was_phone_number IS NOT NULL AND was_anchors_phone THEN 0 WHEN anchors_phone THEN 1 ELSE 2 END
        FROM showing WHERE shows_phone
    ), anchor AS MATERIALIZED (
        SELECT DISTINCT ON (value) value, id FROM carrier ORDER BY value, rank, created_at, id
    ), statement AS (
        SELECT value, run_id, line, created_at FROM unnest(pairs)
        UNION ALL SELECT other_value, run_id, line, created_at FROM unnest(pairs)
        UNION ALL SELECT email, run_id, line, created_at FROM fact
        UNION ALL SELECT phone_number, run_id, line, created_at FROM fact
    ), uncarried AS (
        SELECT DISTINCT ON (node.value) node.value, node.label, s.run_id, s.line, s.created_at
        FROM unnest(nodes, labels) AS node (value, label) JOIN statement AS s ON s.value = node.value
        WHERE NOT EXISTS (SELECT FROM anchor WHERE anchor.value = node.value)
        ORDER BY node.value, s.created_at
    ), made AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('contact', 'id')) AS id, uncarried.* FROM uncarried
    ), shown AS (
        SELECT s.id,
               CASE WHEN shows_email THEN s.email END AS email,
               CASE WHEN shows_phone THEN s.phone_number END AS phone_number,
               CASE WHEN shows_email THEN e.id IS NOT NULL ELSE s.email IS NULL AND s.anchors_email END
                   AS anchors_email,
               CASE WHEN shows_phone THEN p.id IS NOT NULL ELSE s.phone_number IS NULL AND s.anchors_phone END
                   AS anchors_phone,
               CASE WHEN shows_email THEN email_label ELSE phone_label END AS label,
               initial_linked_id, run_id, line, created_at, false AS is_new,
               was_shown, was_email, was_phone_number, was_anchors_email, was_anchors_phone, was_linked_id
        FROM showing AS s
        LEFT JOIN anchor AS e ON shows_email AND e.value = s.email AND e.id = s.id
        LEFT JOIN anchor AS p ON shows_phone AND p.value = s.phone_number AND p.id = s.id
        WHERE shows_email OR shows_phone
        UNION ALL
        SELECT id, CASE WHEN strpos(value, '@') > 0 THEN value END, CASE WHEN strpos(value, '@') = 0 THEN value END,
               strpos(value, '@') > 0, strpos(value, '@') = 0, label, NULL, run_id, line, created_at, true,
               false, NULL, NULL, NULL, NULL, NULL
        FROM made
    ), placed AS MATERIALIZED (
        SELECT *, first_value(id) OVER (PARTITION BY label ORDER BY created_at, id) AS primary_id FROM shown
    ), changed AS MATERIALIZED (
        SELECT *, nullif(primary_id, id) AS linked_id FROM placed
        WHERE NOT was_shown
           OR (was_email, was_phone_number, was_linked_id)
              IS DISTINCT FROM (email, phone_number, nullif(primary_id, id))
           OR email IS NOT NULL AND was_anchors_email <> anchors_email
           OR phone_number IS NOT NULL AND was_anchors_phone <> anchors_phone
    ), leaving AS MATERIALIZED (
        SELECT id, was_linked_id FROM fact
        WHERE was_shown AND NOT EXISTS (SELECT FROM placed WHERE placed.id = fact.id)
    ), deleted AS (
        DELETE FROM contact WHERE id IN (SELECT id FROM changed WHERE was_shown UNION ALL SELECT id FROM leaving)
        RETURNING *
    ), after_the_delete AS (
        -- This statement is planned by now. The queries of the guards, which run at its end, keep their plans: planning
        -- them anew for each row would take longer than all the rest.
        SELECT count(*), set_config('plan_cache_mode', 'auto', true) FROM deleted
    ), moves AS (
        INSERT INTO contact_move (contact_id, from_primary_id, to_primary_id, command_id, moved_at)
        SELECT id, CASE WHEN was_shown THEN coalesce(was_linked_id, id) END, primary_id, command, moment
        FROM changed WHERE NOT was_shown OR coalesce(was_linked_id, id) <> primary_id
        UNION ALL
        SELECT id, coalesce(was_linked_id, id), NULL, command, moment FROM leaving
    ), former AS (
        INSERT INTO former_contact (contact_id, primary_id, next_primary_id, command_id, replaced_at, contact_mark,
                                    evidence_mark, initial_linked_id, run_id, line, created_at, updated_at, stored_in,
                                    anchors_email, anchors_phone, email, phone_number)
        SELECT id, coalesce(d.linked_id, id), changed.primary_id, command, moment, contact_mark, evidence_mark,
               d.initial_linked_id, d.run_id, d.line, d.created_at, d.updated_at, d.stored_in,
               d.anchors_email, d.anchors_phone,
               CASE WHEN d.email = ANY (gone_values) THEN NULL ELSE d.email END,
               CASE WHEN d.phone_number = ANY (gone_values) THEN NULL ELSE d.phone_number END
        FROM deleted AS d LEFT JOIN changed USING (id)
        UNION ALL
        SELECT id, NULL, primary_id, command, moment, contact_mark, evidence_mark,
               NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM changed WHERE NOT was_shown
    ), shown_again AS (
        DELETE FROM set_aside_contact WHERE id IN (
            SELECT id FROM showing
            WHERE is_aside AND NOT is_elsewhere
                AND shows_email = (email IS NOT NULL) AND shows_phone = (phone_number IS NOT NULL)
        )
    ), set_aside AS (
        INSERT INTO set_aside_contact AS s (id, email, phone_number, anchors_email, anchors_phone,
                                            initial_linked_id, run_id, line, created_at)
        SELECT id, email, phone_number, anchors_email, anchors_phone, initial_linked_id, run_id, line, created_at
        FROM showing
        WHERE NOT is_elsewhere AND (email IS NOT NULL AND NOT shows_email OR phone_number IS NOT NULL AND NOT shows_phone)
        ON CONFLICT (id) DO UPDATE SET anchors_email = excluded.anchors_email, anchors_phone = excluded.anchors_phone
        WHERE (s.anchors_email, s.anchors_phone) <> (excluded.anchors_email, excluded.anchors_phone)
    ), former_pairs AS (
        INSERT INTO former_evidence (evidence_id, replaced_at, primary_id, merged_id, run_id, line, created_at, stored_in,
                                     value, other_value, is_held)
        SELECT e.id, moment, e.primary_id, e.merged_id, e.run_id, e.line, e.created_at, e.stored_in,
               e.value, e.other_value, e.is_held
        FROM unnest(pairs) AS pair JOIN link_evidence AS e ON e.id = pair.evidence_id
        WHERE (pair.label IS NULL) <> pair.was_held
    ), held AS (
        UPDATE link_evidence AS e SET
            is_held = pair.label IS NULL, primary_id = coalesce(e.primary_id, root.primary_id),
            stored_in = written_in(e.stored_in, e.xmin)
        FROM unnest(pairs) AS pair LEFT JOIN (SELECT DISTINCT label, primary_id FROM placed) AS root USING (label)
        WHERE e.id = pair.evidence_id AND (pair.label IS NULL) <> pair.was_held
    )
    INSERT INTO contact (id, email, phone_number, linked_id, initial_linked_id, link_precedence,
                         anchors_email, anchors_phone, run_id, line, created_at, updated_at)
    SELECT id, email, phone_number, linked_id, CASE WHEN is_new THEN linked_id ELSE initial_linked_id END,
           CASE WHEN linked_id IS NULL THEN 'primary' ELSE 'secondary' END::link_precedence,
           anchors_email, anchors_phone, run_id, line, created_at, moment
    FROM changed, after_the_delete;

    -- A value that a rule names and no contact anchors is anchored by a placeholder, so that requests meet the rule.
    PERFORM keep_placeholders(ARRAY(SELECT unnest(area) EXCEPT SELECT unnest(nodes) EXCEPT SELECT unnest(gone_values)));
END $$;

-- Give a placeholder to each of these values, which no contact anchors, if a rule names it; take it away from the others.
CREATE OR REPLACE FUNCTION keep_placeholders(of_values text[]) RETURNS void
LANGUAGE sql
AS $$
    WITH named AS MATERIALIZED (
        SELECT own.value, EXISTS (SELECT FROM blocked_value AS b WHERE b.value = own.value)
                  OR EXISTS (SELECT FROM unlinked_pair AS u WHERE u.value = own.value)
                  OR EXISTS (SELECT FROM unlinked_pair AS u WHERE u.other_value = own.value) AS by_a_rule
        FROM unnest(of_values) AS own (value)
    ), dropped AS (
        DELETE FROM contact USING named
        WHERE NOT by_a_rule AND contact.id < 0
            AND (contact.email = named.value AND anchors_email OR contact.phone_number = named.value AND anchors_phone)
    )
    INSERT INTO contact (id, email, phone_number, link_precedence, anchors_email, anchors_phone)
    SELECT -nextval('placeholder_id'),
           CASE WHEN strpos(value, '@') > 0 THEN value END, CASE WHEN strpos(value, '@') = 0 THEN value END,
           'primary', strpos(value, '@') > 0, strpos(value, '@') = 0
    FROM named WHERE by_a_rule
    ON CONFLICT DO NOTHING
$$;

-- The last id that was given to a row of a table. Of two transactions that write to one identity, the later one gets
-- higher ids.
CREATE OR REPLACE FUNCTION last_id(of_table text) RETURNS bigint
LANGUAGE sql AS $$
    SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(of_table, 'id')), 0)
$$;

-- The transaction that has stored a row: its stamp, but not one that is newer than the row itself. That comes from another
-- server, out of a dump. PostgreSQL puts the expression into the statement that calls this, where ages cost little.
CREATE OR REPLACE FUNCTION written_in(stamp xid8, row_xmin xid) RETURNS xid8
LANGUAGE sql AS $$
    SELECT CASE
        WHEN stamp <= pg_current_xact_id() AND age(stamp::xid) >= age(row_xmin) THEN stamp
        ELSE least(stamp, (pg_current_xact_id()::text::bigint
                           - ((pg_current_xact_id()::text::bigint - row_xmin::text::bigint) & 4294967295))::text::xid8)
    END
$$;
