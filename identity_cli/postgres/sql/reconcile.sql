-- Reconcile a pair of values, or a value alone: the rule, and the only place that links. The values are an email and a
-- phone number, of which one may be missing, or they are two emails or two phone numbers. The cost does not depend on
-- the size of the identity: two look-ups, at most two primaries locked, at most one row stored for each unknown value; a
-- merge also moves the rows of the identity that gives way.
--
-- A value that a rule keeps from linking is anchored by a placeholder, a contact with a negative id: the two look-ups find
-- it, and reconcile_steered() takes over. So a request pays nothing for rules that it does not meet.
--
-- Raises 23503 (the primary was merged away meanwhile), 23505, 23G01, 40P01, 40001: send the same request again.
-- Raises ID002 if the session limits merges (identity.merge_limit) and more contacts than that would have to move.
CREATE OR REPLACE FUNCTION reconcile(
    left_value text,
    right_value text,
    request_at timestamptz DEFAULT clock_timestamp(),
    request_run bigint DEFAULT NULL,
    request_line bigint DEFAULT NULL,
    two_emails boolean DEFAULT false,
    two_phones boolean DEFAULT false
) RETURNS reconciliation
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
    rest reconciliation;
    left_id bigint;     -- the contact that anchors the value, its primary, its value of the other kind
    left_root bigint;
    left_partner text;
    left_at timestamptz;
    left_run bigint;
    right_id bigint;
    right_root bigint;
    right_partner text;
    right_at timestamptz;
    right_run bigint;
    fact_run bigint;    -- the run that stated the pair, or the value, first
    locked_root bigint; -- the primary that this transaction has locked
    is_exclusive boolean := false; -- whether nobody else has a share of the lock
    merged bigint;      -- the primary that gives way
    rules text[];       -- those for the new values, null as long as nobody has looked
    hubs text[];
BEGIN
    IF left_value IS NULL AND right_value IS NULL THEN
        RAISE EXCEPTION 'a contact request needs an email or a phone number' USING ERRCODE = 'check_violation';
    END IF;
    FOR attempt IN 1 .. 50 LOOP
        IF left_value IS NOT NULL AND NOT two_phones THEN
            SELECT id, coalesce(linked_id, id), phone_number, created_at, run_id
            INTO left_id, left_root, left_partner, left_at, left_run
            FROM contact WHERE email = left_value AND anchors_email;
        ELSIF left_value IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), email, created_at, run_id
            INTO left_id, left_root, left_partner, left_at, left_run
            FROM contact WHERE phone_number = left_value AND anchors_phone;
        END IF;
        IF right_value IS NOT NULL AND NOT two_emails THEN
            SELECT id, coalesce(linked_id, id), email, created_at, run_id
            INTO right_id, right_root, right_partner, right_at, right_run
            FROM contact WHERE phone_number = right_value AND anchors_phone;
        ELSIF right_value IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), phone_number, created_at, run_id
            INTO right_id, right_root, right_partner, right_at, right_run
            FROM contact WHERE email = right_value AND anchors_email;
        END IF;

        IF (left_id IS NULL AND left_value IS NOT NULL) OR (right_id IS NULL AND right_value IS NOT NULL) THEN
            IF rules_in_force() % 2 = 1 AND (left_id < 0 OR right_id < 0) IS NOT TRUE THEN
                -- No command changes rules from here to the COMMIT. A row stored first, and taken back, would cost two requests
                -- of one identity a deadlock: each has a share of the lock on its primary, and its guard wants all of it.
                LOCK TABLE contact IN ROW EXCLUSIVE MODE;
                rules := rules_for_new_values(left_value, right_value, left_id IS NULL, right_id IS NULL);
                IF num_nonnulls(VARIADIC rules) > 0 THEN
                    result := reconcile_ruled(left_value, right_value, rules, request_at, request_run, request_line);
                    -- No outcome: a pattern blocks a value from now on. Look again.
                    CONTINUE WHEN result.outcome IS NULL;
                    RETURN result;
                END IF;
            END IF;
            -- A contact has room for one value of a kind: of two alike it gets the first that is unknown.
            IF left_id IS NULL AND right_id IS NULL THEN
                INSERT INTO contact (email, phone_number, link_precedence, anchors_email, anchors_phone,
                                     run_id, line, created_at, updated_at)
                VALUES (CASE WHEN NOT two_phones THEN left_value END,
                        CASE WHEN two_phones THEN left_value WHEN NOT two_emails THEN right_value END,
                        'primary', left_value IS NOT NULL, right_value IS NOT NULL,
                        request_run, request_line, request_at, request_at)
                ON CONFLICT DO NOTHING
                RETURNING 'created', id, id, NULL::bigint[] INTO result;
            ELSIF left_id < 0 OR right_id < 0 THEN
                result := reconcile_steered(left_value, right_value, left_id, right_id, request_at, request_run,
                                            request_line, two_emails, two_phones);
                -- No outcome: the rule has gone meanwhile. Look again.
                CONTINUE WHEN result.outcome IS NULL;
                RETURN result;
            ELSE
                IF rules_in_force() >= 2 AND locked_root IS DISTINCT FROM coalesce(left_root, right_root)
                    AND is_full(CASE WHEN left_id IS NULL THEN right_value ELSE left_value END,
                                coalesce(left_partner, right_partner) IS NOT NULL) THEN
                    SELECT id INTO locked_root FROM contact
                    WHERE id = coalesce(left_root, right_root) AND linked_id IS NULL FOR UPDATE;
                    is_exclusive := true;
                    CONTINUE;
                END IF;
                -- A clock of another machine must not make the newcomer older than its primary; the contact that
                -- anchors the known value is not. Where a merge came between, the foreign key says so: 23503.
                INSERT INTO contact (email, phone_number, linked_id, initial_linked_id, link_precedence,
                                     anchors_email, anchors_phone, run_id, line, created_at, updated_at)
                VALUES (CASE WHEN two_emails AND right_id IS NULL THEN right_value
                             WHEN NOT two_phones THEN left_value END,
                        CASE WHEN two_phones AND left_id IS NULL THEN left_value
                             WHEN NOT two_emails THEN right_value END,
                        coalesce(left_root, right_root), coalesce(left_root, right_root), 'secondary',
                        left_id IS NULL OR two_emails, right_id IS NULL OR two_phones,
                        request_run, request_line, greatest(request_at, left_at, right_at),
                        greatest(request_at, left_at, right_at))
                ON CONFLICT DO NOTHING
                RETURNING 'linked', linked_id, id, NULL::bigint[] INTO result;
            END IF;
            -- No row: another request has brought the value in at this moment. Look again. Rules are looked at after the
            -- INSERT, which keeps a command from changing them until the COMMIT.
            IF result.contact_id IS NULL OR rules_in_force() > 0 THEN
                CONTINUE WHEN result.contact_id IS NULL;
                IF rules_in_force() % 2 = 1 AND rules IS NULL THEN
                    RAISE EXCEPTION 'the rules have changed' USING ERRCODE = 'serialization_failure';
                END IF;
                -- The pair that the contact shows is new to the value that was known.
                IF rules_in_force() >= 2 AND result.outcome = 'linked' AND NOT two_emails AND NOT two_phones THEN
                    IF count_partner(CASE WHEN left_id IS NULL THEN right_value ELSE left_value END,
                                     coalesce(left_partner, right_partner) IS NOT NULL) THEN
                        hubs := new_hubs(ARRAY[left_value, right_value]);
                        IF hubs IS NOT NULL THEN
                            PERFORM require_exclusive(is_exclusive);
                            RETURN answer_after_hubs(result, hubs, left_value, right_value, request_run);
                        END IF;
                    END IF;
                    RETURN result;
                END IF;
            END IF;
            IF two_emails OR two_phones THEN
                -- The new contact does not show the known value, so no guard has compared their identities.
                IF result.outcome = 'linked' THEN
                    PERFORM FROM contact
                    WHERE id = coalesce(left_id, right_id) AND coalesce(linked_id, id) = result.primary_id
                        AND CASE WHEN left_id IS NULL THEN right_value ELSE left_value END IN (email, phone_number);
                    IF NOT FOUND THEN
                        RAISE EXCEPTION 'the identity has changed' USING ERRCODE = 'serialization_failure';
                    END IF;
                END IF;
                -- The rest of the pair: the other value is linked, and evidence holds the pair, as no contact shows it.
                rest := reconcile(left_value, right_value, request_at, request_run, request_line, two_emails, two_phones);
                result.primary_id := rest.primary_id;
                IF rest.contact_id IS NOT NULL THEN
                    result.contact_ids := ARRAY[result.contact_id, rest.contact_id];
                END IF;
            END IF;
            RETURN result;
        END IF;

        IF left_id < 0 OR right_id < 0 THEN
            result := reconcile_steered(left_value, right_value, left_id, right_id, request_at, request_run,
                                        request_line, two_emails, two_phones);
            -- No outcome: the rule has gone meanwhile. Look again.
            CONTINUE WHEN result.outcome IS NULL;
            RETURN result;
        END IF;
        IF (two_emails OR two_phones) AND left_value > right_value COLLATE "C" THEN
            -- Evidence has a pair in one order, the smaller of two alike first.
            SELECT right_value, right_id, right_root, right_partner, right_at, right_run,
                   left_value, left_id, left_root, left_partner, left_at, left_run
            INTO left_value, left_id, left_root, left_partner, left_at, left_run,
                 right_value, right_id, right_root, right_partner, right_at, right_run;
        END IF;
        IF left_root = right_root AND NOT (left_partner = right_value OR right_partner = left_value) IS TRUE THEN
            -- Both values are known, their combination may be new: evidence, but no contact.
            SELECT run_id INTO fact_run FROM link_evidence WHERE value = left_value AND other_value = right_value;
            IF NOT FOUND THEN
                IF locked_root IS DISTINCT FROM left_root THEN
                    -- A command that splits the identity comes before, or waits. Look again.
                    IF rules_in_force() >= 2 AND (is_full(left_value, left_partner IS NOT NULL)
                                                  OR is_full(right_value, right_partner IS NOT NULL)) THEN
                        SELECT id INTO locked_root FROM contact WHERE id = left_root AND linked_id IS NULL FOR UPDATE;
                        is_exclusive := true;
                    ELSE
                        SELECT id INTO locked_root FROM contact WHERE id = left_root AND linked_id IS NULL FOR KEY SHARE;
                    END IF;
                    CONTINUE;
                END IF;
                PERFORM FROM unlinked_pair WHERE value = left_value AND other_value = right_value;
                IF FOUND THEN
                    RETURN hold_pair(('unchanged', left_root, NULL, NULL)::reconciliation, left_value, right_value,
                                     request_at, request_run, request_line);
                END IF;
                INSERT INTO link_evidence (value, other_value, primary_id, run_id, line, created_at)
                VALUES (left_value, right_value, left_root, request_run, request_line, request_at)
                ON CONFLICT DO NOTHING;
                CONTINUE WHEN NOT FOUND;
                result := ('unchanged', left_root, NULL, NULL);
                IF rules_in_force() >= 2 THEN
                    hubs := count_pair(left_value, left_partner IS NOT NULL, right_value, right_partner IS NOT NULL);
                    IF hubs IS NOT NULL THEN
                        PERFORM require_exclusive(is_exclusive);
                        RETURN answer_after_hubs(result, hubs, left_value, right_value, request_run);
                    END IF;
                END IF;
                RETURN result;
            END IF;
        END IF;
        IF left_root = right_root OR left_root IS NULL OR right_root IS NULL THEN
            -- Stated by a run that may be undone before this request is: then it is stated still.
            IF coalesce(fact_run, CASE WHEN right_id IS NULL OR left_partner = right_value THEN left_run ELSE right_run END)
                > coalesce(request_run, 0) THEN
                IF locked_root IS DISTINCT FROM coalesce(left_root, right_root) THEN
                    SELECT id INTO locked_root FROM contact
                    WHERE id = coalesce(left_root, right_root) AND linked_id IS NULL FOR KEY SHARE;
                    CONTINUE;
                END IF;
                PERFORM restate(left_value, right_value, request_at, request_run, request_line);
            END IF;
            result := ('unchanged', coalesce(left_root, right_root), NULL, NULL);
            RETURN result;
        END IF;

        merged := merge_identities(left_value, right_value, left_id, right_id, left_root, right_root,
                                   request_at, request_run, request_line);
        CONTINUE WHEN merged IS NULL;
        IF merged = 0 THEN
            RETURN hold_pair(('unchanged', left_root, NULL, NULL)::reconciliation, left_value, right_value,
                             request_at, request_run, request_line);
        END IF;
        result := ('merged', CASE WHEN merged = left_root THEN right_root ELSE left_root END, NULL, NULL);
        IF rules_in_force() >= 2 THEN
            hubs := count_pair(left_value, left_partner IS NOT NULL, right_value, right_partner IS NOT NULL);
            IF hubs IS NOT NULL THEN
                RETURN answer_after_hubs(result, hubs, left_value, right_value, request_run);
            END IF;
        END IF;
        RETURN result;
    END LOOP;
    RAISE EXCEPTION 'the contacts of this request keep changing' USING ERRCODE = 'serialization_failure';
END $$;

-- Merge the identities of two values under the older of their primaries; return the primary that gives way. left_id and
-- right_id are the contacts that anchor the values, left_root and right_root their primaries, in the order of
-- link_evidence. Null if one of them is no longer what it was; 0, and nothing is done, if a rule unlinks the pair.
CREATE OR REPLACE FUNCTION merge_identities(
    left_value text,
    right_value text,
    left_id bigint,
    right_id bigint,
    left_root bigint,
    right_root bigint,
    request_at timestamptz,
    request_run bigint,
    request_line bigint
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    kept bigint := least(left_root, right_root);
    kept_at timestamptz;
    merged bigint := greatest(left_root, right_root);
    merged_at timestamptz;
    merge_limit text;
    is_unlinked boolean;
BEGIN
    -- Locked in the order of their ids, so that two merges cannot wait for each other.
    SELECT created_at INTO kept_at FROM contact WHERE id = kept AND linked_id IS NULL FOR UPDATE;
    SELECT created_at INTO merged_at FROM contact WHERE id = merged AND linked_id IS NULL FOR UPDATE;
    IF kept_at IS NULL OR merged_at IS NULL THEN
        RETURN NULL;
    ELSIF merged_at < kept_at THEN
        merged := kept;
        kept := greatest(left_root, right_root);
    END IF;
    -- A command may have moved a value before the lock. While it is held, neither value leaves its identity.
    SELECT EXISTS (SELECT FROM unlinked_pair WHERE value = left_value AND other_value = right_value) INTO is_unlinked
    FROM contact AS l, contact AS r
    WHERE l.id = left_id AND coalesce(l.linked_id, l.id) = left_root AND left_value IN (l.email, l.phone_number)
        AND r.id = right_id AND coalesce(r.linked_id, r.id) = right_root AND right_value IN (r.email, r.phone_number);
    IF is_unlinked IS NOT FALSE THEN
        RETURN CASE WHEN is_unlinked THEN 0 END;
    END IF;
    merge_limit := current_setting('identity.merge_limit', true);
    IF merge_limit <> '' THEN
        -- Counted before anything is written: a merge that a time limit cancels leaves dead rows behind.
        PERFORM FROM contact WHERE linked_id = merged OFFSET merge_limit::bigint LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'the merge would move more than % contacts', merge_limit USING ERRCODE = 'ID002';
        END IF;
    END IF;
    UPDATE contact SET linked_id = kept, link_precedence = 'secondary', updated_at = request_at,
                       stored_in = written_in(stored_in, xmin)
    WHERE id = merged OR linked_id = merged;
    INSERT INTO link_evidence (value, other_value, primary_id, merged_id, run_id, line, created_at)
    VALUES (left_value, right_value, kept, merged, request_run, request_line, request_at);
    RETURN merged;
END $$;
