-- Erase values for good. Only a keyed hash of each remains, so that a request that brings it again can drop it.

-- The hash of a forgotten value. The key is in the database, or the session has brought it: then a client without it must
-- not reconcile, since it would let forgotten values in.
--
-- Raises ID003 if the session has no key, or another one than that of the values forgotten so far.
CREATE OR REPLACE FUNCTION forget_hash(of_value text) RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    stored forget_key;
    key bytea;
BEGIN
    SELECT * INTO stored FROM forget_key;
    key := coalesce(stored.key, convert_to(nullif(current_setting('identity.forget_key', true), ''), 'UTF8'));
    IF key IS NULL OR sha256('fingerprint'::bytea || key) <> stored.fingerprint THEN
        RAISE EXCEPTION 'the key of the forgotten values is missing, or is another one' USING ERRCODE = 'ID003';
    END IF;
    -- Twice: nobody can lengthen the hash of one value to that of another.
    RETURN sha256(key || sha256(key || convert_to(of_value, 'UTF8')));
END $$;

-- Make the key with the first value that is forgotten: the session's, which is not stored, or a random one.
CREATE OR REPLACE FUNCTION make_forget_key() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    session_key bytea := convert_to(nullif(current_setting('identity.forget_key', true), ''), 'UTF8');
    random_key bytea := sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
BEGIN
    INSERT INTO forget_key (key, fingerprint)
    VALUES (CASE WHEN session_key IS NULL THEN random_key END,
            sha256('fingerprint'::bytea || coalesce(session_key, random_key)))
    ON CONFLICT DO NOTHING;
END $$;

-- Whether a text names a value: an email in any case, a phone number with any separators. Of a long number the last seven
-- digits count, as it may be written without its country code; a short one has to stand alone.
CREATE OR REPLACE FUNCTION names_value(of_text text, of_value text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    digits text := regexp_replace(split_part(of_value, ';', 1), '\D', '', 'g');
BEGIN
    IF strpos(of_value, '@') > 0 THEN
        RETURN strpos(lower(of_text), of_value) > 0;
    ELSIF length(digits) >= 7 THEN
        RETURN strpos(regexp_replace(of_text, '\D', '', 'g'), right(digits, 7)) > 0;
    END IF;
    RETURN of_text ~ ('(^|\D)' || digits || '(\D|$)');
END $$;

-- A document of a run without a value; short numbers stay, as they occur in any document.
CREATE OR REPLACE FUNCTION without_value(document jsonb, of_value text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF length(of_value) < 7 AND strpos(of_value, '@') = 0 THEN
        RETURN document;
    END IF;
    RETURN regexp_replace(document::text, '***=' || ltrim(of_value, '+'), 'forgotten', 'gi')::jsonb;
END $$;

-- Forget these values. Contacts keep their other value; what other values were stated with a forgotten one, they are
-- stated alone from now on. Writers wait.
CREATE OR REPLACE FUNCTION forget_values(of_values text[], command bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    touched text[];
    roots bigint[];
    evidence_ids bigint[];
    named text;
BEGIN
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    PERFORM make_forget_key();
    FOR named IN
        SELECT pattern FROM block_pattern
        WHERE EXISTS (SELECT FROM unnest(of_values) AS own (value)
                      WHERE names_value(replace(pattern, '\', ''), own.value))
    LOOP
        PERFORM remove_pattern(named, command);
    END LOOP;
    INSERT INTO forgotten_value (hash, command_id)
    SELECT forget_hash(own.value), command FROM unnest(of_values) AS own (value) ON CONFLICT DO NOTHING;
    touched := ARRAY(
        SELECT unnest(with_held_partners(of_values))
        UNION SELECT value FROM unlinked_pair WHERE other_value = ANY (of_values)
        UNION SELECT other_value FROM unlinked_pair WHERE value = ANY (of_values)
        EXCEPT SELECT unnest(of_values)
    );
    roots := lock_identities(touched || of_values);

    evidence_ids := ARRAY(
        SELECT id FROM link_evidence WHERE value = ANY (of_values)
        UNION SELECT e.id FROM link_evidence AS e WHERE e.other_value = ANY (of_values)
    );
    INSERT INTO restatement AS r (value, other_value, run_id, line, created_at)
    SELECT DISTINCT ON (value) value, '', run_id, line, created_at
    FROM (
        SELECT unnest(ARRAY[value, other_value]) AS value, run_id, line, created_at
        FROM link_evidence WHERE id = ANY (evidence_ids)
        UNION ALL
        SELECT unnest(ARRAY[value, other_value]), run_id, line, created_at
        FROM restatement WHERE value = ANY (of_values) OR other_value = ANY (of_values)
    ) AS statement
    WHERE value <> '' AND value <> ALL (of_values)
    ORDER BY value, coalesce(run_id, 0)
    ON CONFLICT (value, other_value) DO UPDATE SET
        run_id = excluded.run_id, line = excluded.line, created_at = excluded.created_at
    WHERE coalesce(excluded.run_id, 0) < coalesce(r.run_id, 0);
    DELETE FROM restatement WHERE value = ANY (of_values) OR other_value = ANY (of_values);
    PERFORM keep_merges(evidence_ids);
    INSERT INTO former_evidence (evidence_id, replaced_at, primary_id, merged_id, run_id, line, created_at, stored_in, is_held)
    SELECT id, clock_timestamp(), primary_id, merged_id, run_id, line, created_at, stored_in, is_held
    FROM link_evidence WHERE id = ANY (evidence_ids) AND merged_id IS NOT NULL;
    DELETE FROM link_evidence WHERE id = ANY (evidence_ids);
    UPDATE former_evidence SET value = NULL, other_value = NULL, replaced_in = written_in(replaced_in, xmin)
    WHERE value = ANY (of_values) OR other_value = ANY (of_values);
    UPDATE former_contact SET
        email = CASE WHEN email = ANY (of_values) THEN NULL ELSE email END,
        phone_number = CASE WHEN phone_number = ANY (of_values) THEN NULL ELSE phone_number END,
        replaced_in = written_in(replaced_in, xmin)
    WHERE email = ANY (of_values) OR phone_number = ANY (of_values);

    DELETE FROM set_aside_contact
    WHERE coalesce(email = ANY (of_values), true) AND coalesce(phone_number = ANY (of_values), true);
    UPDATE set_aside_contact SET email = NULL WHERE email = ANY (of_values);
    UPDATE set_aside_contact SET phone_number = NULL WHERE phone_number = ANY (of_values);
    DELETE FROM unlinked_pair WHERE value = ANY (of_values) OR other_value = ANY (of_values);
    DELETE FROM blocked_value WHERE value = ANY (of_values);
    DELETE FROM hub_exemption WHERE value = ANY (of_values);
    DELETE FROM partner_count WHERE value = ANY (of_values);
    DELETE FROM contact WHERE id < 0 AND (email = ANY (of_values) OR phone_number = ANY (of_values));
    UPDATE steering_command SET reason = NULL
    WHERE EXISTS (SELECT FROM unnest(of_values) AS own (value) WHERE names_value(reason, own.value));
    -- A file may be named after a person.
    FOREACH named IN ARRAY of_values LOOP
        UPDATE import_run SET
            inputs = without_value(inputs, named), options = without_value(options, named),
            checkpoint = without_value(checkpoint, named), error = without_value(error, named)
        WHERE strpos(lower(concat(inputs, options, checkpoint, error)), ltrim(named, '+')) > 0;
    END LOOP;

    PERFORM set_rules_in_force();
    PERFORM rework(roots, touched, command, of_values);
    PERFORM recount_partners();
    PERFORM apply_hub_limits(command);
END $$;
