-- Reconcile a request of any number of values: every two of them are a pair, and the pairs are reconciled one after the
-- other. Each email with each phone number comes first, then the emails with each other, then the phone numbers.
--
-- The outcome is the strongest of the pairs' outcomes, the primary that of the first value that links. contact_id is the first contact
-- stored, contact_ids all of them if there are several. Raises what reconcile() raises.
CREATE OR REPLACE FUNCTION reconcile_request(
    emails text[],
    phones text[],
    request_at timestamptz DEFAULT clock_timestamp(),
    request_run bigint DEFAULT NULL,
    request_line bigint DEFAULT NULL
) RETURNS reconciliation
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
    step reconciliation;
    left_value text;
    right_value text;
    two_emails boolean;
    two_phones boolean;
    strengths CONSTANT text[] := '{created,merged,linked,unchanged,blocked,forgotten}';
    strongest integer;
    stored bigint[] := '{}';
    first_primary_id bigint;
BEGIN
    IF cardinality(emails) <= 1 AND cardinality(phones) <= 1 THEN
        RETURN reconcile(emails[1], phones[1], request_at, request_run, request_line);
    END IF;
    IF rules_in_force() >= 2 THEN
        PERFORM lock_primaries(emails, phones, unless_all_are_known => true);
    END IF;
    FOR left_value, right_value, two_emails, two_phones IN
        WITH request AS (
            SELECT 'email' AS kind, value, place FROM unnest(emails) WITH ORDINALITY AS email (value, place)
            UNION ALL
            SELECT 'phone', value, place FROM unnest(phones) WITH ORDINALITY AS phone (value, place)
        )
        SELECT l.value, r.value, r.kind = 'email', l.kind = 'phone'
        FROM request AS l JOIN request AS r ON (l.kind, l.place) < (r.kind, r.place)
        ORDER BY l.kind = r.kind, l.kind, l.place, r.place
    LOOP
        step := reconcile(left_value, right_value, request_at, request_run, request_line, two_emails, two_phones);
        strongest := least(strongest, array_position(strengths, step.outcome));
        stored := stored || coalesce(step.contact_ids, array_remove(ARRAY[step.contact_id], NULL));
    END LOOP;
    result := (strengths[strongest], step.primary_id, stored[1], NULL);
    IF cardinality(emails) > 0 THEN
        SELECT coalesce(linked_id, id) INTO first_primary_id FROM contact WHERE email = emails[1] AND anchors_email;
    ELSE
        SELECT coalesce(linked_id, id) INTO first_primary_id FROM contact WHERE phone_number = phones[1] AND anchors_phone;
    END IF;
    IF first_primary_id > 0 THEN
        -- Rules may keep its values in several identities: the answer is that of the first one.
        result.primary_id := first_primary_id;
    ELSE
        result.primary_id := (primaries_of(emails || phones))[1];
        IF result.primary_id IS NULL AND result.outcome <> 'forgotten' THEN
            -- Its values may have become hubs one after the other.
            result.outcome := 'blocked';
        END IF;
    END IF;
    IF cardinality(stored) > 1 THEN
        result.contact_ids := stored;
    END IF;
    RETURN result;
END $$;

-- Lock the primaries of a request of several values, in the order of their ids. Its first pair takes a share of the lock on
-- a primary, and a later one that merges, or makes a hub, all of it: two requests of the same people may wait for each
-- other. So it is called where hubs are counted, unless all values are known, as in an import that comes again, and before
-- a request is tried again.
CREATE OR REPLACE FUNCTION lock_primaries(
    emails text[], phones text[], unless_all_are_known boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    roots bigint[];
    known_values integer;
BEGIN
    SELECT array_agg(DISTINCT root) FILTER (WHERE root > 0), count(*) INTO roots, known_values FROM (
        SELECT anchor.root FROM unnest(emails) AS own (value),
            LATERAL (SELECT coalesce(linked_id, id) AS root FROM contact
                     WHERE email = own.value AND anchors_email OFFSET 0) AS anchor
        UNION ALL
        SELECT anchor.root FROM unnest(phones) AS own (value),
            LATERAL (SELECT coalesce(linked_id, id) AS root FROM contact
                     WHERE phone_number = own.value AND anchors_phone OFFSET 0) AS anchor
    ) AS known;
    IF roots IS NOT NULL AND NOT (unless_all_are_known AND known_values
            = coalesce(cardinality(emails), 0) + coalesce(cardinality(phones), 0)) THEN
        PERFORM FROM contact WHERE id = ANY (roots) ORDER BY id FOR UPDATE;
    END IF;
END $$;
