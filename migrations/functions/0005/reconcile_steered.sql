-- What reconcile() does where a rule concerns the request. A statement that does not link is kept all the same: it links
-- when the rule has gone, however late that is.

-- Reconcile a pair, or a value alone, of which at least one value is anchored by a placeholder: blocked, or named in an
-- unlinked pair before it was first stated. No outcome: the placeholder has gone meanwhile.
CREATE OR REPLACE FUNCTION reconcile_steered(
    left_value text,
    right_value text,
    left_id bigint,
    right_id bigint,
    request_at timestamptz,
    request_run bigint,
    request_line bigint,
    two_emails boolean,
    two_phones boolean
) RETURNS reconciliation
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
    step reconciliation;
    rules text[];
    is_left_blocked boolean := false;
    is_right_blocked boolean := false;
BEGIN
    -- A command that takes the rule away waits for this, or comes before.
    IF NOT lock_placeholders(left_id, right_id) THEN
        RETURN result;
    END IF;
    -- A value that was known may have been forgotten since.
    IF left_id > 0 THEN
        PERFORM FROM contact WHERE id = left_id AND left_value IN (email, phone_number);
        IF NOT FOUND THEN
            RETURN result;
        END IF;
    ELSIF right_id > 0 THEN
        PERFORM FROM contact WHERE id = right_id AND right_value IN (email, phone_number);
        IF NOT FOUND THEN
            RETURN result;
        END IF;
    END IF;
    IF rules_in_force() % 2 = 1 THEN
        rules := rules_for_new_values(left_value, right_value, left_id IS NULL, right_id IS NULL);
        IF num_nonnulls(VARIADIC rules) > 0 THEN
            RETURN reconcile_ruled(left_value, right_value, rules, request_at, request_run, request_line);
        END IF;
    END IF;
    IF left_id < 0 THEN
        PERFORM FROM blocked_value WHERE value = left_value;
        is_left_blocked := FOUND;
    END IF;
    IF right_id < 0 THEN
        PERFORM FROM blocked_value WHERE value = right_value;
        is_right_blocked := FOUND;
    END IF;

    IF left_value IS NULL OR right_value IS NULL THEN
        IF is_left_blocked OR is_right_blocked THEN
            PERFORM hold_value(coalesce(left_value, right_value), request_at, request_run, request_line);
            result.outcome := 'blocked';
        ELSE
            PERFORM release_placeholders(ARRAY[left_id, right_id]);
        END IF;
        RETURN result;
    END IF;

    IF (two_emails OR two_phones) AND left_value > right_value COLLATE "C" THEN
        RETURN reconcile_steered(right_value, left_value, right_id, left_id, request_at, request_run, request_line,
                                 two_emails, two_phones);
    END IF;
    IF left_id < 0 AND NOT is_left_blocked OR right_id < 0 AND NOT is_right_blocked THEN
        PERFORM release_placeholders(ARRAY[left_id, right_id]);
    END IF;
    IF NOT is_left_blocked AND NOT is_right_blocked THEN
        PERFORM FROM unlinked_pair WHERE value = left_value AND other_value = right_value;
        IF NOT FOUND THEN
            RETURN result;
        END IF;
    END IF;

    -- Each value by itself; what the pair says is held.
    result := ('blocked', NULL, NULL, NULL);
    IF NOT is_right_blocked THEN
        result := reconcile_value(right_value, right_id, request_at, request_run, request_line);
    END IF;
    IF NOT is_left_blocked THEN
        step := reconcile_value(left_value, left_id, request_at, request_run, request_line);
        -- A pattern may have blocked it just now: then the answer is that of the other value.
        IF step.outcome <> 'blocked' THEN
            IF step.contact_id IS NOT NULL AND result.contact_id IS NOT NULL THEN
                step.contact_ids := ARRAY[step.contact_id, result.contact_id];
            ELSIF step.contact_id IS NULL THEN
                step.contact_id := result.contact_id;
                step.outcome := CASE WHEN result.contact_id IS NULL THEN step.outcome ELSE 'created' END;
            END IF;
            result := step;
        END IF;
    END IF;
    RETURN hold_pair(result, left_value, right_value, request_at, request_run, request_line);
END $$;

-- Reconcile a value by itself. anchor_id is the contact that anchored it when the caller looked: null if there was none, 0 if
-- the caller does not know. What follows from it with certainty is stored as reconcile() would store it.
CREATE OR REPLACE FUNCTION reconcile_value(
    of_value text, anchor_id bigint, request_at timestamptz, request_run bigint, request_line bigint
) RETURNS reconciliation
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
    is_email boolean := strpos(of_value, '@') > 0;
BEGIN
    IF anchor_id > 0 THEN
        -- Stated by a run that cannot be undone before this one.
        SELECT 'unchanged', coalesce(linked_id, id) INTO result.outcome, result.primary_id FROM contact
        WHERE id = anchor_id AND coalesce(run_id, 0) <= coalesce(request_run, 0)
            AND CASE WHEN is_email THEN email = of_value AND anchors_email
                     ELSE phone_number = of_value AND anchors_phone END;
    ELSIF anchor_id IS NULL AND rules_in_force() % 2 = 0 THEN
        INSERT INTO contact (email, phone_number, link_precedence, anchors_email, anchors_phone,
                             run_id, line, created_at, updated_at)
        VALUES (CASE WHEN is_email THEN of_value END, CASE WHEN NOT is_email THEN of_value END, 'primary',
                is_email, NOT is_email, request_run, request_line, request_at, request_at)
        ON CONFLICT DO NOTHING
        RETURNING 'created', id, id, NULL::bigint[] INTO result;
        -- After the INSERT, which keeps commands from changing rules until the COMMIT.
        IF rules_in_force() % 2 = 1 THEN
            RAISE EXCEPTION 'the rules have changed' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    IF result.outcome IS NULL THEN
        result := reconcile(CASE WHEN is_email THEN of_value END, CASE WHEN NOT is_email THEN of_value END,
                            request_at, request_run, request_line);
    END IF;
    RETURN result;
END $$;

-- The rules for two values, of which one may be null: only a new value can be forgotten, or match a pattern without
-- being blocked already.
CREATE OR REPLACE FUNCTION rules_for_new_values(
    left_value text, right_value text, is_left_new boolean, is_right_new boolean
) RETURNS text[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY[CASE WHEN is_left_new THEN rule_for_new_value(left_value) END,
                 CASE WHEN is_right_new THEN rule_for_new_value(right_value) END];
END $$;

-- Reconcile a request of which a value is forgotten with what is left of it. No outcome: none is, but a pattern blocks a
-- value from now on.
CREATE OR REPLACE FUNCTION reconcile_ruled(
    left_value text,
    right_value text,
    rules text[],
    request_at timestamptz,
    request_run bigint,
    request_line bigint
) RETURNS reconciliation
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
BEGIN
    IF 'forgotten' = ANY (rules) IS NOT TRUE THEN
        PERFORM block_by_pattern(ARRAY[CASE WHEN rules[1] IS NOT NULL THEN left_value END,
                                       CASE WHEN rules[2] IS NOT NULL THEN right_value END]);
    ELSIF left_value IS NOT NULL AND rules[1] IS DISTINCT FROM 'forgotten' THEN
        RETURN reconcile_value(left_value, 0, request_at, request_run, request_line);
    ELSIF right_value IS NOT NULL AND rules[2] IS DISTINCT FROM 'forgotten' THEN
        RETURN reconcile_value(right_value, 0, request_at, request_run, request_line);
    ELSE
        result.outcome := 'forgotten';
    END IF;
    RETURN result;
END $$;

-- 'forgotten', 'blocked' if a pattern matches, or null.
CREATE OR REPLACE FUNCTION rule_for_new_value(new_value text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF new_value IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM FROM forgotten_value LIMIT 1;
    IF FOUND THEN
        PERFORM FROM forgotten_value WHERE hash = forget_hash(new_value);
        IF FOUND THEN
            RETURN 'forgotten';
        END IF;
    END IF;
    PERFORM FROM block_pattern WHERE new_value ~ whole_value(pattern);
    RETURN CASE WHEN FOUND THEN 'blocked' END;
END $$;

-- Block those of these values that a pattern matches.
CREATE OR REPLACE FUNCTION block_by_pattern(new_values text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    new_value text;
    matching bigint;
BEGIN
    FOREACH new_value IN ARRAY new_values LOOP
        SELECT min(id) INTO matching FROM block_pattern WHERE new_value ~ whole_value(pattern);
        IF matching IS NOT NULL THEN
            PERFORM block_values(ARRAY[new_value], NULL, false, matching);
        END IF;
    END LOOP;
END $$;

-- Lock the placeholders among two contacts against requests and commands; false if one of them has gone.
CREATE OR REPLACE FUNCTION lock_placeholders(left_id bigint, right_id bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF left_id < 0 AND right_id < 0 THEN
        -- In one order: two requests with the same values wait for each other at the first of them.
        PERFORM FROM contact WHERE id = least(left_id, right_id) FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        PERFORM FROM contact WHERE id = greatest(left_id, right_id) FOR NO KEY UPDATE;
    ELSE
        PERFORM FROM contact WHERE id = CASE WHEN left_id < 0 THEN left_id ELSE right_id END FOR NO KEY UPDATE;
    END IF;
    RETURN FOUND;
END $$;

-- Remove those of these placeholders whose values are not blocked: the values are stated now.
CREATE OR REPLACE FUNCTION release_placeholders(ids bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM contact WHERE id = ANY (ids) AND id < 0
        AND NOT EXISTS (SELECT FROM blocked_value WHERE value IN (email, phone_number));
END $$;

-- Whether a contact was stored with this value.
CREATE OR REPLACE FUNCTION is_stored(of_value text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- Values that link are anchored by one. Plain statements: PostgreSQL plans those of an SQL function for each call.
    IF strpos(of_value, '@') > 0 THEN
        PERFORM FROM set_aside_contact WHERE email = of_value LIMIT 1;
        IF NOT FOUND THEN
            PERFORM FROM contact WHERE email = of_value AND anchors_email AND id > 0;
        END IF;
    ELSE
        PERFORM FROM set_aside_contact WHERE phone_number = of_value LIMIT 1;
        IF NOT FOUND THEN
            PERFORM FROM contact WHERE phone_number = of_value AND anchors_phone AND id > 0;
        END IF;
    END IF;
    RETURN FOUND;
END $$;

-- Keep a blocked value that was stated alone.
CREATE OR REPLACE FUNCTION hold_value(
    of_value text, request_at timestamptz, request_run bigint, request_line bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT is_stored(of_value) THEN
        PERFORM set_aside_new(of_value, NULL, request_at, request_run, request_line);
    ELSIF (SELECT min(coalesce(run_id, 0)) FROM set_aside_contact WHERE of_value IN (email, phone_number))
        > coalesce(request_run, 0) THEN
        PERFORM restate(of_value, NULL, request_at, request_run, request_line);
    END IF;
END $$;

-- Store a contact that shows nothing, for a value or for an email and a phone number, which it anchors when they link; return
-- its id.
CREATE OR REPLACE FUNCTION set_aside_new(
    of_value text,
    other_value text,
    request_at timestamptz,
    request_run bigint,
    request_line bigint
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    new_id bigint;
    is_email boolean := strpos(of_value, '@') > 0;
BEGIN
    INSERT INTO set_aside_contact (id, email, phone_number, anchors_email, anchors_phone, run_id, line, created_at)
    VALUES (nextval(pg_get_serial_sequence('contact', 'id')),
            CASE WHEN is_email THEN of_value END, CASE WHEN is_email THEN other_value ELSE of_value END,
            is_email, NOT is_email OR other_value IS NOT NULL, request_run, request_line, request_at)
    RETURNING id INTO new_id;
    RETURN new_id;
END $$;

-- Keep a pair that does not link, in the order of link_evidence; return the answer to the request. Its placeholders or its
-- primaries are locked: nobody else states one of the two values at the same moment.
--
-- A contact that the request has stored for one of them was stored with the pair. A value that no contact was stored
-- with gets one that shows nothing yet.
CREATE OR REPLACE FUNCTION hold_pair(
    answer reconciliation,
    left_value text,
    right_value text,
    request_at timestamptz,
    request_run bigint,
    request_line bigint
) RETURNS reconciliation
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    fact_run bigint;
    is_left_stored boolean;
    is_right_stored boolean;
    is_mixed boolean := strpos(left_value, '@') > 0 AND strpos(right_value, '@') = 0;
    hubs text[];
BEGIN
    IF is_mixed AND answer.contact_id IS NOT NULL THEN
        -- Nobody has stated the pair before: one of its values was unknown. The contact shows that one, and anchors it.
        INSERT INTO set_aside_contact (id, email, phone_number, anchors_email, anchors_phone,
                                       initial_linked_id, run_id, line, created_at)
        SELECT id, left_value, right_value, email IS NOT NULL OR NOT is_stored(left_value),
               phone_number IS NOT NULL OR NOT is_stored(right_value), initial_linked_id, run_id, line, created_at
        FROM contact WHERE id = answer.contact_id;
    ELSE
        SELECT coalesce(run_id, 0) INTO fact_run FROM (
            SELECT run_id FROM link_evidence WHERE value = left_value AND other_value = right_value
            UNION ALL
            SELECT run_id FROM set_aside_contact WHERE email = left_value AND phone_number = right_value
        ) AS fact;
        IF FOUND THEN
            IF fact_run > coalesce(request_run, 0) THEN
                PERFORM restate(left_value, right_value, request_at, request_run, request_line);
            END IF;
            RETURN answer;
        END IF;
        is_left_stored := is_stored(left_value);
        is_right_stored := is_stored(right_value);
        IF is_mixed AND NOT is_left_stored AND NOT is_right_stored THEN
            PERFORM set_aside_new(left_value, right_value, request_at, request_run, request_line);
        ELSE
            IF NOT is_left_stored THEN
                PERFORM set_aside_new(left_value, NULL, request_at, request_run, request_line);
            END IF;
            IF NOT is_right_stored THEN
                PERFORM set_aside_new(right_value, NULL, request_at, request_run, request_line);
            END IF;
            INSERT INTO link_evidence (value, other_value, is_held, run_id, line, created_at)
            VALUES (left_value, right_value, true, request_run, request_line, request_at);
        END IF;
    END IF;
    IF rules_in_force() >= 2 THEN
        hubs := count_pair(left_value, has_partner(left_value), right_value, has_partner(right_value));
        IF hubs IS NOT NULL THEN
            RETURN answer_after_hubs(answer, hubs, left_value, right_value, request_run);
        END IF;
    END IF;
    RETURN answer;
END $$;

-- Note that a pair, or a value alone, is stated by a request that outlives an undo of the run that stated it first.
CREATE OR REPLACE FUNCTION restate(
    left_value text, right_value text, request_at timestamptz, request_run bigint, request_line bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO restatement AS r (value, other_value, run_id, line, created_at)
    VALUES (coalesce(left_value, right_value), CASE WHEN left_value IS NULL THEN '' ELSE coalesce(right_value, '') END,
            request_run, request_line, request_at)
    ON CONFLICT (value, other_value) DO UPDATE SET
        run_id = excluded.run_id, line = excluded.line, created_at = excluded.created_at
    WHERE coalesce(excluded.run_id, 0) < coalesce(r.run_id, 0);
END $$;
