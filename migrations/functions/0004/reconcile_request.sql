-- Reconcile a request of any number of values: every two of them are a pair, and the pairs are reconciled one after the
-- other. Each email with each phone number comes first, then the emails with each other, then the phone numbers.
--
-- The outcome is the strongest of the pairs' outcomes, the primary that of the first value that links. contact_id is the first contact
-- stored, contact_ids all of them if there are several. Raises what reconcile() raises.
--
-- The anchors of all values are looked up at once. What follows from them with certainty is stored as reconcile() would
-- store it, as in reconcile_batch(). reconcile() is asked where rules are in force or concern a value, and from the first
-- pair on that the look-up does not decide.
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
    strengths CONSTANT text[] := '{created,merged,linked,unchanged,blocked,forgotten}';
    strongest integer;
    stored bigint[] := '{}';
    own_values CONSTANT text[] := emails || phones;
    email_count CONSTANT integer := coalesce(cardinality(emails), 0);
    value_count CONSTANT integer := cardinality(own_values);
    -- The contacts that anchor the values, their primaries, their values of the other kind, their times. runs is null for a
    -- value that is new, and 0 for one that was stated by no run.
    ids bigint[];
    roots bigint[];
    partners text[];
    times timestamptz[];
    runs bigint[];
    decides boolean := false; -- whether the look-up is certain
    l integer;          -- the places of a pair, in the order of link_evidence
    r integer;
    left_value text;
    right_value text;
    left_root bigint;
    right_root bigint;
    fact_run bigint;
    new_id bigint;
    stored_at timestamptz;
    locked_root bigint; -- a primary that this transaction has locked
    gone_root bigint;
    first_primary_id bigint;
BEGIN
    IF cardinality(emails) <= 1 AND cardinality(phones) <= 1 THEN
        RETURN reconcile(emails[1], phones[1], request_at, request_run, request_line);
    END IF;
    IF rules_in_force() = 0 THEN
        -- Sub-selects hide the number of values from the planner: knowing it, it would plan the look-up for each request.
        SELECT array_agg(id), array_agg(root), array_agg(partner), array_agg(created_at), array_agg(run_id)
        INTO ids, roots, partners, times, runs
        FROM (
            SELECT anchor.*, place FROM unnest((SELECT emails)) WITH ORDINALITY AS own (value, place)
            LEFT JOIN LATERAL (
                SELECT id, coalesce(linked_id, id) AS root, phone_number AS partner, created_at, coalesce(run_id, 0) AS run_id
                FROM contact WHERE email = own.value AND anchors_email OFFSET 0
            ) AS anchor ON true
            UNION ALL
            SELECT anchor.*, email_count + place FROM unnest((SELECT phones)) WITH ORDINALITY AS own (value, place)
            LEFT JOIN LATERAL (
                SELECT id, coalesce(linked_id, id), email, created_at, coalesce(run_id, 0)
                FROM contact WHERE phone_number = own.value AND anchors_phone OFFSET 0
            ) AS anchor ON true
            ORDER BY place
        ) AS looked_up;
        decides := (0 > ANY (roots)) IS NOT TRUE;
    ELSIF rules_in_force() >= 2 THEN
        PERFORM lock_primaries(emails, phones, unless_all_are_known => true);
    END IF;
    -- The kinds of a pair: an email and a phone number, two emails, two phone numbers.
    FOR kinds IN 1 .. 3 LOOP
    FOR i IN CASE kinds WHEN 3 THEN email_count + 1 ELSE 1 END .. CASE kinds WHEN 3 THEN value_count ELSE email_count END LOOP
    FOR j IN CASE kinds WHEN 1 THEN email_count ELSE i END + 1 .. CASE kinds WHEN 2 THEN email_count ELSE value_count END LOOP
        IF decides THEN
            left_value := own_values[i];
            right_value := own_values[j];
            l := i;
            r := j;
            IF kinds > 1 AND left_value > right_value COLLATE "C" THEN
                left_value := own_values[j];
                right_value := own_values[i];
                l := j;
                r := i;
            END IF;
            left_root := roots[l];
            right_root := roots[r];
            IF left_root = right_root THEN
                fact_run := NULL;
                IF partners[l] = right_value THEN
                    fact_run := runs[l];
                ELSIF partners[r] = left_value THEN
                    fact_run := runs[r];
                ELSIF runs[l] IS NOT NULL AND runs[r] IS NOT NULL THEN
                    SELECT coalesce(run_id, greatest(runs[l], runs[r])) INTO fact_run
                    FROM link_evidence WHERE value = left_value AND other_value = right_value;
                END IF;
                IF fact_run <= coalesce(request_run, 0) THEN
                    strongest := least(strongest, 4);
                    CONTINUE;
                ELSIF fact_run IS NULL THEN
                    IF locked_root IS DISTINCT FROM left_root THEN
                        SELECT id INTO locked_root FROM contact WHERE id = left_root AND linked_id IS NULL FOR KEY SHARE;
                    END IF;
                    -- While it is locked, no value leaves the identity.
                    INSERT INTO link_evidence (value, other_value, primary_id, run_id, line, created_at)
                    SELECT left_value, right_value, locked_root, request_run, request_line, request_at
                    FROM contact AS a, contact AS b
                    WHERE a.id = ids[l] AND coalesce(a.linked_id, a.id) = locked_root
                        AND left_value IN (a.email, a.phone_number)
                        AND b.id = ids[r] AND coalesce(b.linked_id, b.id) = locked_root
                        AND right_value IN (b.email, b.phone_number)
                        AND NOT EXISTS (SELECT FROM unlinked_pair WHERE value = left_value AND other_value = right_value)
                    ON CONFLICT DO NOTHING;
                    IF FOUND THEN
                        strongest := least(strongest, 4);
                        CONTINUE;
                    END IF;
                END IF;
            ELSIF left_root <> right_root THEN
                gone_root := merge_identities(left_value, right_value, ids[l], ids[r], left_root, right_root,
                                              request_at, request_run, request_line);
                IF gone_root > 0 THEN
                    locked_root := CASE gone_root WHEN left_root THEN right_root ELSE left_root END;
                    roots := array_replace(roots, gone_root, locked_root);
                    strongest := least(strongest, 2);
                    CONTINUE;
                END IF;
            ELSIF kinds = 1 THEN
                stored_at := greatest(request_at, times[l], times[r]);
                IF left_root IS NULL AND right_root IS NULL THEN
                    INSERT INTO contact (email, phone_number, link_precedence, anchors_email, anchors_phone,
                                         run_id, line, created_at, updated_at)
                    VALUES (left_value, right_value, 'primary', true, true, request_run, request_line, stored_at, stored_at)
                    ON CONFLICT DO NOTHING
                    RETURNING id, id INTO new_id, locked_root;
                ELSE
                    INSERT INTO contact (email, phone_number, linked_id, initial_linked_id, link_precedence,
                                         anchors_email, anchors_phone, run_id, line, created_at, updated_at)
                    VALUES (left_value, right_value, coalesce(left_root, right_root), coalesce(left_root, right_root), 'secondary',
                            left_root IS NULL, right_root IS NULL, request_run, request_line, stored_at, stored_at)
                    ON CONFLICT DO NOTHING
                    RETURNING id, linked_id INTO new_id, locked_root;
                END IF;
                IF new_id IS NOT NULL THEN
                    strongest := least(strongest, CASE new_id WHEN locked_root THEN 1 ELSE 3 END);
                    stored := stored || new_id;
                    IF left_root IS NULL THEN
                        ids[l] := new_id;
                        roots[l] := locked_root;
                        times[l] := stored_at;
                    END IF;
                    IF right_root IS NULL THEN
                        ids[r] := new_id;
                        roots[r] := locked_root;
                        times[r] := stored_at;
                    END IF;
                    CONTINUE;
                END IF;
            END IF;
            -- After a row, which keeps a command from changing rules until the COMMIT, or before any.
            IF rules_in_force() > 0 THEN
                RAISE EXCEPTION 'the rules have changed' USING ERRCODE = 'serialization_failure';
            END IF;
            decides := false;
        END IF;
        step := reconcile(own_values[i], own_values[j], request_at, request_run, request_line, kinds = 2, kinds = 3);
        strongest := least(strongest, array_position(strengths, step.outcome));
        stored := stored || coalesce(step.contact_ids, array_remove(ARRAY[step.contact_id], NULL));
    END LOOP;
    END LOOP;
    END LOOP;
    result := (strengths[strongest], roots[1], stored[1], NULL);
    IF cardinality(stored) > 1 THEN
        result.contact_ids := stored;
    END IF;
    IF decides THEN
        -- As above.
        IF rules_in_force() > 0 THEN
            RAISE EXCEPTION 'the rules have changed' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN result;
    END IF;
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
