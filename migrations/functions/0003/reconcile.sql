-- Reconcile a pair of values, or a value alone: the rule, and the only place that links. The values are an email and a
-- phone number, of which one may be missing, or they are two emails or two phone numbers. The cost does not depend on
-- the size of the identity: two look-ups, at most two primaries locked, at most one row stored for each unknown value; a
-- merge also moves the rows of the identity that gives way.
--
-- Raises 23503 (the primary was merged away meanwhile), 23505, 40P01, 40001: send the same request again.
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
    right_id bigint;
    right_root bigint;
    right_partner text;
    right_at timestamptz;
    merged bigint;
    merge_limit text;
    found_primaries bigint[];
BEGIN
    IF left_value IS NULL AND right_value IS NULL THEN
        RAISE EXCEPTION 'a contact request needs an email or a phone number' USING ERRCODE = 'check_violation';
    END IF;
    FOR attempt IN 1 .. 50 LOOP
        IF left_value IS NOT NULL AND NOT two_phones THEN
            SELECT id, coalesce(linked_id, id), phone_number, created_at
            INTO left_id, left_root, left_partner, left_at
            FROM contact WHERE email = left_value AND anchors_email;
        ELSIF left_value IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), email, created_at
            INTO left_id, left_root, left_partner, left_at
            FROM contact WHERE phone_number = left_value AND anchors_phone;
        END IF;
        IF right_value IS NOT NULL AND NOT two_emails THEN
            SELECT id, coalesce(linked_id, id), email, created_at
            INTO right_id, right_root, right_partner, right_at
            FROM contact WHERE phone_number = right_value AND anchors_phone;
        ELSIF right_value IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), phone_number, created_at
            INTO right_id, right_root, right_partner, right_at
            FROM contact WHERE email = right_value AND anchors_email;
        END IF;

        IF (left_id IS NULL AND left_value IS NOT NULL) OR (right_id IS NULL AND right_value IS NOT NULL) THEN
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
            ELSE
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
                        request_run, request_line, greatest(request_at, left_at, right_at), request_at)
                ON CONFLICT DO NOTHING
                RETURNING 'linked', linked_id, id, NULL::bigint[] INTO result;
            END IF;
            -- No row: another request has brought the value in at this moment. Look again.
            CONTINUE WHEN result.contact_id IS NULL;
            IF two_emails OR two_phones THEN
                -- The rest of the pair: the other value is linked, and evidence holds the pair, as no contact shows it.
                rest := reconcile(left_value, right_value, request_at, request_run, request_line, two_emails, two_phones);
                result.primary_id := rest.primary_id;
                IF rest.contact_id IS NOT NULL THEN
                    result.contact_ids := ARRAY[result.contact_id, rest.contact_id];
                END IF;
            END IF;
            RETURN result;
        END IF;

        IF (two_emails OR two_phones) AND left_value > right_value COLLATE "C" THEN
            -- Evidence has a pair in one order, the smaller of two alike first.
            SELECT right_value, left_value INTO left_value, right_value;
        END IF;
        IF left_root = right_root AND NOT (left_partner = right_value OR right_partner = left_value) IS TRUE THEN
            -- Both values are known, their combination may be new: evidence, but no contact.
            PERFORM FROM link_evidence WHERE value = left_value AND other_value = right_value;
            IF NOT FOUND THEN
                INSERT INTO link_evidence (value, other_value, primary_id, run_id, line, created_at)
                VALUES (left_value, right_value, left_root, request_run, request_line, request_at)
                ON CONFLICT DO NOTHING;
            END IF;
        END IF;
        IF left_root = right_root OR left_root IS NULL OR right_root IS NULL THEN
            result := ('unchanged', coalesce(left_root, right_root), NULL, NULL);
            RETURN result;
        END IF;

        -- Locked in the order of their ids, so that two merges cannot wait for each other.
        SELECT array_agg(id ORDER BY created_at, id) INTO found_primaries
        FROM (SELECT id, created_at FROM contact
              WHERE id IN (left_root, right_root) AND linked_id IS NULL
              ORDER BY id FOR UPDATE) AS locked;
        -- One of them is no longer primary: another merge came first. Look again.
        CONTINUE WHEN cardinality(found_primaries) IS DISTINCT FROM 2;

        merged := found_primaries[2];
        merge_limit := current_setting('identity.merge_limit', true);
        IF merge_limit <> '' THEN
            -- Counted before anything is written: a merge that a time limit cancels leaves dead rows behind.
            PERFORM FROM contact WHERE linked_id = merged OFFSET merge_limit::bigint LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION 'the merge would move more than % contacts', merge_limit USING ERRCODE = 'ID002';
            END IF;
        END IF;
        UPDATE contact SET linked_id = found_primaries[1], link_precedence = 'secondary', updated_at = request_at
        WHERE id = merged OR linked_id = merged;
        INSERT INTO link_evidence (value, other_value, primary_id, merged_id, run_id, line, created_at)
        VALUES (left_value, right_value, found_primaries[1], merged, request_run, request_line, request_at);
        result := ('merged', found_primaries[1], NULL, NULL);
        RETURN result;
    END LOOP;
    RAISE EXCEPTION 'the contacts of this request keep changing' USING ERRCODE = 'serialization_failure';
END $$;
