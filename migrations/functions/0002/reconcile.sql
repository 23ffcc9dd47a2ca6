-- Reconcile one request: the rule, and the only place that links. The cost does not depend on the size of the identity:
-- two look-ups, at most two primaries locked, at most one row stored; a merge also moves the rows of the identity that
-- gives way.
--
-- Raises 23503 (the primary was merged away meanwhile), 23505, 40P01, 40001: send the same request again.
-- Raises ID002 if the session limits merges (identity.merge_limit) and more contacts than that would have to move.
CREATE OR REPLACE FUNCTION reconcile(
    request_email text,
    request_phone text,
    request_at timestamptz DEFAULT clock_timestamp(),
    request_run bigint DEFAULT NULL,
    request_line bigint DEFAULT NULL
) RETURNS reconciliation
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
    email_id bigint;    -- the contact that anchors the email, its primary, its phone number
    email_root bigint;
    email_phone text;
    phone_id bigint;    -- the contact that anchors the phone number, its primary, its email
    phone_root bigint;
    phone_email text;
    email_at timestamptz;
    phone_at timestamptz;
    merged bigint;
    merge_limit text;
    found_primaries bigint[];
BEGIN
    IF request_email IS NULL AND request_phone IS NULL THEN
        RAISE EXCEPTION 'a contact request needs an email or a phone number' USING ERRCODE = 'check_violation';
    END IF;
    FOR attempt IN 1 .. 50 LOOP
        IF request_email IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), phone_number, created_at
            INTO email_id, email_root, email_phone, email_at
            FROM contact WHERE email = request_email AND anchors_email;
        END IF;
        IF request_phone IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), email, created_at
            INTO phone_id, phone_root, phone_email, phone_at
            FROM contact WHERE phone_number = request_phone AND anchors_phone;
        END IF;

        IF email_id IS NULL AND phone_id IS NULL THEN
            INSERT INTO contact (email, phone_number, link_precedence, anchors_email, anchors_phone,
                                 run_id, line, created_at, updated_at)
            VALUES (request_email, request_phone, 'primary', request_email IS NOT NULL, request_phone IS NOT NULL,
                    request_run, request_line, request_at, request_at)
            ON CONFLICT DO NOTHING
            RETURNING 'created', id, id INTO result;
            -- No row: another request has brought the value in at this moment. Look again.
            CONTINUE WHEN result.contact_id IS NULL;
            RETURN result;
        END IF;

        IF (email_id IS NULL AND request_email IS NOT NULL) OR (phone_id IS NULL AND request_phone IS NOT NULL) THEN
            -- A clock of another machine must not make the newcomer older than its primary; the contact that
            -- anchors the known value is not. Where a merge came between, the foreign key says so: 23503.
            INSERT INTO contact (email, phone_number, linked_id, initial_linked_id, link_precedence,
                                 anchors_email, anchors_phone, run_id, line, created_at, updated_at)
            VALUES (request_email, request_phone, coalesce(email_root, phone_root), coalesce(email_root, phone_root),
                    'secondary', email_id IS NULL, phone_id IS NULL, request_run, request_line,
                    greatest(request_at, email_at, phone_at), request_at)
            ON CONFLICT DO NOTHING
            RETURNING 'linked', linked_id, id INTO result;
            CONTINUE WHEN result.contact_id IS NULL;
            RETURN result;
        END IF;

        IF email_root = phone_root AND NOT (email_phone = request_phone OR phone_email = request_email) IS TRUE THEN
            -- Both values are known, their combination may be new: evidence, but no contact.
            PERFORM FROM link_evidence WHERE email = request_email AND phone_number = request_phone;
            IF NOT FOUND THEN
                INSERT INTO link_evidence (email, phone_number, primary_id, run_id, line, created_at)
                VALUES (request_email, request_phone, email_root, request_run, request_line, request_at)
                ON CONFLICT DO NOTHING;
            END IF;
        END IF;
        IF email_root = phone_root OR email_root IS NULL OR phone_root IS NULL THEN
            result := ('unchanged', coalesce(email_root, phone_root), NULL);
            RETURN result;
        END IF;

        -- Locked in the order of their ids, so that two merges cannot wait for each other.
        SELECT array_agg(id ORDER BY created_at, id) INTO found_primaries
        FROM (SELECT id, created_at FROM contact
              WHERE id IN (email_root, phone_root) AND linked_id IS NULL
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
        INSERT INTO link_evidence (email, phone_number, primary_id, merged_id, run_id, line, created_at)
        VALUES (request_email, request_phone, found_primaries[1], merged, request_run, request_line, request_at);
        result := ('merged', found_primaries[1], NULL);
        RETURN result;
    END LOOP;
    RAISE EXCEPTION 'the contacts of this request keep changing' USING ERRCODE = 'serialization_failure';
END $$;
