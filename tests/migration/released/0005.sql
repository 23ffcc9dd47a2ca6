

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;


CREATE TYPE public.link_precedence AS ENUM (
    'primary',
    'secondary'
);



CREATE TYPE public.reconciliation AS (
	outcome text,
	primary_id bigint,
	contact_id bigint,
	contact_ids bigint[]
);



CREATE TYPE public.reworked_contact AS (
	id bigint,
	email text COLLATE pg_catalog."C",
	phone_number text COLLATE pg_catalog."C",
	anchors_email boolean,
	anchors_phone boolean,
	initial_linked_id bigint,
	run_id bigint,
	line bigint,
	created_at timestamp with time zone,
	is_aside boolean,
	is_elsewhere boolean,
	was_shown boolean,
	was_email text COLLATE pg_catalog."C",
	was_phone_number text COLLATE pg_catalog."C",
	was_anchors_email boolean,
	was_anchors_phone boolean,
	was_linked_id bigint,
	email_label integer,
	phone_label integer,
	is_unlinked boolean
);



CREATE TYPE public.reworked_pair AS (
	evidence_id bigint,
	value text COLLATE pg_catalog."C",
	other_value text COLLATE pg_catalog."C",
	was_held boolean,
	run_id bigint,
	line bigint,
	created_at timestamp with time zone,
	label integer
);



CREATE FUNCTION public.add_pattern(new_pattern text, command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    new_id bigint;
    matching text[];
BEGIN
    -- By itself, too: 'a)|(b' would be valid with parentheses around it.
    PERFORM '' ~ new_pattern, '' ~ whole_value(new_pattern);
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    INSERT INTO block_pattern (pattern, command_id) VALUES (new_pattern, command)
    ON CONFLICT DO NOTHING RETURNING id INTO new_id;
    IF new_id IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_rules_in_force();
    matching := ARRAY(
        SELECT email FROM contact WHERE anchors_email AND email ~ whole_value(new_pattern)
        UNION ALL
        SELECT phone_number FROM contact WHERE anchors_phone AND phone_number ~ whole_value(new_pattern)
    );
    IF matching <> '{}' THEN
        PERFORM block_values(matching, command, false, new_id);
    END IF;
END $$;



CREATE FUNCTION public.answer_after_hubs(answer public.reconciliation, hubs text[], left_value text, right_value text, request_run bigint) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
DECLARE
    primary_ids bigint[];
BEGIN
    PERFORM stop_hubs(hubs, request_run);
    primary_ids := primaries_of(ARRAY[left_value, right_value]);
    IF answer.contact_id IS NOT NULL THEN
        PERFORM FROM contact WHERE id = answer.contact_id;
        IF NOT FOUND THEN
            answer.contact_id := NULL;
        END IF;
    END IF;
    IF cardinality(primary_ids) = 0 THEN
        answer.outcome := 'blocked';
    ELSIF answer.contact_id = primary_ids[1] THEN
        answer.outcome := 'created';
    ELSIF answer.contact_id IS NULL AND (answer.outcome <> 'merged' OR cardinality(primary_ids) > 1) THEN
        answer.outcome := 'unchanged';
    END IF;
    answer.primary_id := primary_ids[1];
    RETURN answer;
END $$;



CREATE FUNCTION public.apply_hub_limits(command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    hubs text[] := ARRAY(SELECT values_over_limit());
    starting text[] := ARRAY(SELECT unnest(hubs) EXCEPT SELECT value FROM blocked_value WHERE is_hub);
    ending text[] := ARRAY(SELECT value FROM blocked_value WHERE is_hub EXCEPT SELECT unnest(hubs));
BEGIN
    IF ending <> '{}' THEN
        PERFORM unblock_values(ending, command, as_hub => true);
    END IF;
    IF starting <> '{}' THEN
        PERFORM block_values(starting, command, false, NULL, true);
    END IF;
END $$;



CREATE FUNCTION public.block_by_pattern(new_values text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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



CREATE FUNCTION public.block_values(of_values text[], command bigint, by_command boolean, by_pattern bigint DEFAULT NULL::bigint, as_hub boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    touched text[];
    roots bigint[];
    unknown text[];
BEGIN
    INSERT INTO blocked_value AS b (value, command_id, pattern_id, is_hub)
    SELECT DISTINCT own.value, CASE WHEN by_command THEN command END, by_pattern, as_hub
    FROM unnest(of_values) AS own (value)
    ORDER BY own.value
    ON CONFLICT (value) DO UPDATE SET
        command_id = coalesce(b.command_id, excluded.command_id),
        pattern_id = coalesce(b.pattern_id, excluded.pattern_id),
        is_hub = b.is_hub OR excluded.is_hub;
    FOR attempt IN 1 .. 50 LOOP
        -- A contact that was stored with an unlinked pair shows the other value when one of them is blocked.
        touched := with_unlinked_partners(of_values);
        roots := lock_identities(touched);
        CONTINUE WHEN with_unlinked_partners(of_values) <> touched;
        unknown := without_anchor(of_values);
        IF unknown = '{}' THEN
            PERFORM rework(roots, of_values, command);
            RETURN;
        END IF;
        -- A request may store one of them at this moment: then this waits, and finds its contact next.
        PERFORM keep_placeholders(unknown);
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;



CREATE FUNCTION public.claim_profile(wanted_version integer, wanted_region text) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    stored normalization_profile;
BEGIN
    INSERT INTO normalization_profile (version, region) VALUES (wanted_version, wanted_region) ON CONFLICT DO NOTHING;
    SELECT * INTO stored FROM normalization_profile FOR UPDATE;
    IF stored.version = wanted_version AND stored.region IS NOT DISTINCT FROM wanted_region THEN
        RETURN;
    END IF;
    -- A statement of its own: it sees what was committed while this one waited for the row.
    IF EXISTS (SELECT FROM contact WHERE id > 0) OR EXISTS (SELECT FROM set_aside_contact) THEN
        IF stored.version <= wanted_version AND stored.region IS NOT DISTINCT FROM wanted_region THEN
            RETURN;
        END IF;
        RAISE EXCEPTION 'the database holds values of another normalisation profile' USING ERRCODE = 'ID001';
    END IF;
    UPDATE normalization_profile SET version = wanted_version, region = wanted_region;
END $$;



CREATE FUNCTION public.count_pair(left_value text, left_has_partner boolean, right_value text, right_has_partner boolean) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    are_suspect boolean[];
BEGIN
    -- In one order: two requests with the same values wait for each other at the first of them.
    IF left_value < right_value COLLATE "C" THEN
        are_suspect := ARRAY[count_partner(left_value, left_has_partner), count_partner(right_value, right_has_partner)];
    ELSE
        are_suspect := ARRAY[count_partner(right_value, right_has_partner), count_partner(left_value, left_has_partner)];
    END IF;
    IF true = ANY (are_suspect) THEN
        RETURN new_hubs(ARRAY[left_value, right_value]);
    END IF;
    RETURN NULL;
END $$;



CREATE FUNCTION public.count_partner(of_value text, has_partner boolean) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    is_suspect boolean;
BEGIN
    INSERT INTO partner_count AS p (value, partners) VALUES (of_value, CASE WHEN has_partner THEN 2 ELSE 1 END)
    ON CONFLICT (value) DO UPDATE SET partners = p.partners + 1
    RETURNING partners > rules_in_force() / 2 INTO is_suspect;
    RETURN is_suspect;
END $$;



CREATE FUNCTION public.exempt_values(of_values text[], command bigint, are_exempt boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    hubs text[];
BEGIN
    -- Requests that count partners of these values end first, others wait.
    PERFORM FROM partner_count WHERE value = ANY (of_values) ORDER BY value FOR UPDATE;
    IF are_exempt THEN
        INSERT INTO hub_exemption (value, command_id) SELECT DISTINCT own.value, command
        FROM unnest(of_values) AS own (value) ON CONFLICT DO NOTHING;
        hubs := ARRAY(SELECT value FROM blocked_value WHERE value = ANY (of_values) AND is_hub);
        IF hubs <> '{}' THEN
            PERFORM unblock_values(hubs, command, as_hub => true);
        END IF;
    ELSE
        DELETE FROM hub_exemption WHERE value = ANY (of_values);
        hubs := ARRAY(SELECT value FROM values_over_limit() AS own (value) WHERE value = ANY (of_values));
        IF hubs <> '{}' THEN
            PERFORM block_values(hubs, command, false, NULL, true);
        END IF;
    END IF;
END $$;



CREATE FUNCTION public.forget_hash(of_value text) RETURNS bytea
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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



CREATE FUNCTION public.forget_values(of_values text[], command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.guard_identifiers_deleted() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    PERFORM FROM contact WHERE id IN (SELECT coalesce(linked_id, id) FROM old_rows) ORDER BY id FOR UPDATE;
    PERFORM refuse_two_identities()
    FROM (SELECT DISTINCT coalesce(linked_id, id) AS root FROM old_rows WHERE id > 0) AS old_identity
    JOIN contact c ON c.linked_id = old_identity.root OR c.id = old_identity.root
    WHERE (email IS NOT NULL AND NOT anchors_email AND NOT EXISTS (
               SELECT FROM contact a WHERE a.email = c.email AND a.anchors_email))
       OR (phone_number IS NOT NULL AND NOT anchors_phone AND NOT EXISTS (
               SELECT FROM contact a WHERE a.phone_number = c.phone_number AND a.anchors_phone));
    RETURN NULL;
END $$;



CREATE FUNCTION public.guard_identifiers_inserted() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF NEW.email IS NOT NULL AND NOT NEW.anchors_email THEN
        PERFORM FROM contact WHERE email = NEW.email AND anchors_email
            AND coalesce(linked_id, id) = coalesce(NEW.linked_id, NEW.id)
            AND NOT EXISTS (SELECT FROM unlinked_pair WHERE value = NEW.email AND other_value = NEW.phone_number);
        IF NOT FOUND THEN
            PERFORM refuse_two_identities();
        END IF;
    END IF;
    IF NEW.phone_number IS NOT NULL AND NOT NEW.anchors_phone THEN
        PERFORM FROM contact WHERE phone_number = NEW.phone_number AND anchors_phone
            AND coalesce(linked_id, id) = coalesce(NEW.linked_id, NEW.id)
            AND NOT EXISTS (SELECT FROM unlinked_pair WHERE value = NEW.email AND other_value = NEW.phone_number);
        IF NOT FOUND THEN
            PERFORM refuse_two_identities();
        END IF;
    END IF;
    RETURN NULL;
END $$;



CREATE FUNCTION public.guard_identifiers_updated() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    is_merge boolean;
    has_carriers boolean;
    has_unlinked_pairs boolean;
BEGIN
    -- A merge changes rows of one identity, and its primary becomes a secondary. Then the UPDATE has locked that as
    -- FOR UPDATE does, because its precedence is part of a key, and the foreign key lets no row stay in the old identity.
    SELECT is_one_identity AND gives_way, after.has_carriers, EXISTS (SELECT FROM unlinked_pair)
    INTO is_merge, has_carriers, has_unlinked_pairs
    FROM (
        SELECT min(coalesce(linked_id, id)) AS root,
               min(coalesce(linked_id, id)) = max(coalesce(linked_id, id)) AND bool_or(linked_id IS NULL) AS is_one_identity
        FROM old_rows
    ) AS before, LATERAL (
        SELECT bool_or(id = before.root AND linked_id IS NOT NULL) AS gives_way,
               bool_or(email IS NOT NULL AND NOT anchors_email OR phone_number IS NOT NULL AND NOT anchors_phone) AS has_carriers
        FROM new_rows
    ) AS after;
    IF is_merge IS NOT TRUE THEN
        PERFORM FROM contact WHERE id IN (SELECT coalesce(linked_id, id) FROM old_rows) ORDER BY id FOR UPDATE;
        has_unlinked_pairs := EXISTS (SELECT FROM unlinked_pair);
        PERFORM refuse_two_identities()
        FROM (
            SELECT c.id, c.linked_id, c.email, c.phone_number, c.anchors_email, c.anchors_phone
            FROM (SELECT DISTINCT coalesce(linked_id, id) AS root FROM old_rows) AS old_identity
            JOIN contact c ON c.linked_id = old_identity.root OR c.id = old_identity.root
        ) AS remaining
        WHERE (email IS NOT NULL AND NOT anchors_email AND (
                   SELECT coalesce(a.linked_id, a.id) FROM contact a WHERE a.email = remaining.email AND a.anchors_email
               ) IS DISTINCT FROM coalesce(remaining.linked_id, remaining.id))
           OR (phone_number IS NOT NULL AND NOT anchors_phone AND (
                   SELECT coalesce(a.linked_id, a.id) FROM contact a
                   WHERE a.phone_number = remaining.phone_number AND a.anchors_phone
               ) IS DISTINCT FROM coalesce(remaining.linked_id, remaining.id));
    END IF;
    -- Look-ups by scalar sub-selects: a join would be planned by statistics, and a plan made while the table holds few
    -- values of a kind reads the whole index for every merge later.
    IF has_carriers THEN
        PERFORM refuse_two_identities()
        FROM (
            SELECT DISTINCT coalesce(linked_id, id) AS root, CASE WHEN NOT anchors_email THEN email END AS email,
                   CASE WHEN NOT anchors_phone THEN phone_number END AS phone_number
            FROM new_rows WHERE NOT (anchors_email AND anchors_phone)
        ) AS changed
        WHERE (email IS NOT NULL AND (
                   SELECT coalesce(a.linked_id, a.id) FROM contact a WHERE a.email = changed.email AND a.anchors_email
               ) IS DISTINCT FROM root)
           OR (phone_number IS NOT NULL AND (
                   SELECT coalesce(a.linked_id, a.id) FROM contact a
                   WHERE a.phone_number = changed.phone_number AND a.anchors_phone
               ) IS DISTINCT FROM root);
    END IF;
    IF has_unlinked_pairs THEN
        PERFORM refuse_two_identities()
        FROM new_rows JOIN unlinked_pair ON value = email AND other_value = phone_number;
    END IF;
    RETURN NULL;
END $$;



CREATE FUNCTION public.has_partner(of_value text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    IF strpos(of_value, '@') > 0 THEN
        PERFORM FROM contact WHERE email = of_value AND anchors_email AND phone_number IS NOT NULL;
    ELSE
        PERFORM FROM contact WHERE phone_number = of_value AND anchors_phone AND email IS NOT NULL;
    END IF;
    RETURN FOUND;
END $$;



CREATE FUNCTION public.hold_pair(answer public.reconciliation, left_value text, right_value text, request_at timestamp with time zone, request_run bigint, request_line bigint) RETURNS public.reconciliation
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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



CREATE FUNCTION public.hold_value(of_value text, request_at timestamp with time zone, request_run bigint, request_line bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF NOT is_stored(of_value) THEN
        PERFORM set_aside_new(of_value, NULL, request_at, request_run, request_line);
    ELSIF (SELECT min(coalesce(run_id, 0)) FROM set_aside_contact WHERE of_value IN (email, phone_number))
        > coalesce(request_run, 0) THEN
        PERFORM restate(of_value, NULL, request_at, request_run, request_line);
    END IF;
END $$;



CREATE FUNCTION public.identify(emails text[], phones text[], at_most bigint) RETURNS TABLE(id bigint, email text, phone_number text, linked_id bigint, outcome text, primary_id bigint, contact_id bigint, contact_ids bigint[])
    LANGUAGE plpgsql
    AS $$
DECLARE
    result reconciliation;
BEGIN
    IF cardinality(emails) <= 1 AND cardinality(phones) <= 1 THEN
        result := reconcile(emails[1], phones[1]);
        IF result.contact_id = result.primary_id THEN
            -- A primary is the oldest contact of its identity, and this one is new: there is no other.
            RETURN QUERY SELECT c.id, c.email, c.phone_number, c.linked_id, result.*
                FROM contact AS c WHERE c.id = result.primary_id;
            RETURN;
        END IF;
    ELSE
        result := reconcile_request(emails, phones);
    END IF;
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM wait_for_disk();
    END IF;
    IF result.primary_id IS NULL THEN
        RETURN QUERY SELECT NULL::bigint, NULL, NULL, NULL::bigint, result.*;
        RETURN;
    END IF;
    RETURN QUERY SELECT member.*, result.* FROM members(result.primary_id, at_most) AS member;
END $$;



CREATE PROCEDURE public.identify_batch(IN email_list text, IN phone_list text, IN at_most bigint, INOUT outcomes text[] DEFAULT NULL::text[], INOUT primary_ids bigint[] DEFAULT NULL::bigint[], INOUT contact_ids text[] DEFAULT NULL::text[], INOUT sqlstates text[] DEFAULT NULL::text[], INOUT member_places bigint[] DEFAULT NULL::bigint[], INOUT member_ids bigint[] DEFAULT NULL::bigint[], INOUT member_emails text[] DEFAULT NULL::text[], INOUT member_phones text[] DEFAULT NULL::text[], INOUT member_links bigint[] DEFAULT NULL::bigint[])
    LANGUAGE plpgsql
    AS $$
DECLARE
    emails CONSTANT text[] := string_to_array(email_list, E'\n', '');
    phones CONSTANT text[] := string_to_array(phone_list, E'\n', '');
    results reconciliation[];
    result reconciliation;
BEGIN
    IF rules_in_force() >= 2 THEN
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(emails) LOOP
        BEGIN
            result := reconcile(emails[i], phones[i]);
        EXCEPTION WHEN OTHERS THEN
            result := (NULL, NULL, NULL, NULL);
            sqlstates := sqlstates || SQLSTATE;
        END;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        COMMIT;
        results[i] := result;
        EXIT WHEN result.outcome IS NULL AND sqlstates[cardinality(sqlstates)] = '55P03';
    END LOOP;
    SELECT array_agg(outcome ORDER BY place), array_agg(primary_id ORDER BY place),
           array_agg(coalesce(array_to_string(answer.contact_ids, ' '), contact_id::text) ORDER BY place)
    INTO outcomes, primary_ids, contact_ids
    FROM unnest(results) WITH ORDINALITY AS answer (outcome, primary_id, contact_id, contact_ids, place);
    -- A sub-select hides the number of identities from the planner: knowing it, it would plan the query for each batch.
    SELECT array_agg(place), array_agg(id), array_agg(email), array_agg(phone_number), array_agg(linked_id)
    INTO member_places, member_ids, member_emails, member_phones, member_links
    FROM unnest((SELECT primary_ids)) WITH ORDINALITY AS identity (root, place),
        LATERAL members(root, identify_batch.at_most) AS member;
    PERFORM wait_for_disk();
END $$;



CREATE FUNCTION public.is_full(of_value text, has_partner boolean, more bigint DEFAULT 1) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    partners_then bigint;
BEGIN
    SELECT partners + more INTO partners_then FROM partner_count WHERE value = of_value;
    partners_then := coalesce(partners_then, has_partner::integer + more);
    IF partners_then <= rules_in_force() / 2 THEN
        RETURN false;
    END IF;
    PERFORM FROM link_policy
    WHERE partners_then > CASE WHEN strpos(of_value, '@') > 0 THEN email_limit ELSE phone_limit END
        AND NOT EXISTS (SELECT FROM hub_exemption WHERE value = of_value);
    RETURN FOUND;
END $$;



CREATE FUNCTION public.is_stored(of_value text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
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



CREATE FUNCTION public.keep_merges(evidence_ids bigint[]) RETURNS void
    LANGUAGE sql
    AS $$
    INSERT INTO contact_move (contact_id, from_primary_id, to_primary_id, moved_at)
    SELECT merged_id, merged_id, primary_id, created_at
    FROM link_evidence WHERE id = ANY (evidence_ids) AND merged_id IS NOT NULL
    ORDER BY id
$$;



CREATE FUNCTION public.keep_placeholders(of_values text[]) RETURNS void
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



CREATE FUNCTION public.keep_stated_values(of_values text[], roots bigint[], gone_run bigint) RETURNS void
    LANGUAGE sql
    SET plan_cache_mode TO 'force_custom_plan'
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



CREATE FUNCTION public.last_id(of_table text) RETURNS bigint
    LANGUAGE sql
    AS $$
    SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(of_table, 'id')), 0)
$$;



CREATE FUNCTION public.last_of_chains(next_places integer[]) RETURNS integer[]
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    FOR i IN REVERSE coalesce(cardinality(next_places), 0) .. 1 LOOP
        next_places[i] := coalesce(next_places[next_places[i]], i);
    END LOOP;
    RETURN next_places;
END $$;



CREATE FUNCTION public.lock_identities(of_values text[]) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    roots bigint[];
    found_roots bigint[];
BEGIN
    FOR attempt IN 1 .. 50 LOOP
        found_roots := ARRAY(
            SELECT coalesce(c.linked_id, c.id)
            FROM unnest(of_values) AS own (value),
                LATERAL (SELECT id, linked_id FROM contact WHERE email = own.value AND anchors_email OFFSET 0) AS c
            UNION
            SELECT coalesce(c.linked_id, c.id)
            FROM unnest(of_values) AS own (value),
                LATERAL (SELECT id, linked_id FROM contact WHERE phone_number = own.value AND anchors_phone OFFSET 0) AS c
            ORDER BY 1
        );
        IF found_roots = roots THEN
            RETURN roots;
        END IF;
        roots := found_roots;
        PERFORM FROM contact WHERE id = ANY (roots) ORDER BY id FOR UPDATE;
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;



CREATE FUNCTION public.lock_placeholders(left_id bigint, right_id bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.lock_primaries(emails text[], phones text[], unless_all_are_known boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.lock_with_held_partners(of_values text[]) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    touched text[];
    roots bigint[];
BEGIN
    -- The placeholders first: while they are locked, no request states anything new with their values.
    PERFORM lock_identities(of_values);
    FOR attempt IN 1 .. 50 LOOP
        touched := with_held_partners(of_values);
        roots := lock_identities(touched);
        IF with_held_partners(of_values) = touched THEN
            RETURN roots;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;



CREATE FUNCTION public.make_forget_key() RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    session_key bytea := convert_to(nullif(current_setting('identity.forget_key', true), ''), 'UTF8');
    random_key bytea := sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
BEGIN
    INSERT INTO forget_key (key, fingerprint)
    VALUES (CASE WHEN session_key IS NULL THEN random_key END,
            sha256('fingerprint'::bytea || coalesce(session_key, random_key)))
    ON CONFLICT DO NOTHING;
END $$;



CREATE FUNCTION public.members(of_primary bigint, at_most bigint) RETURNS TABLE(id bigint, email text, phone_number text, linked_id bigint)
    LANGUAGE sql STABLE
    AS $$
    SELECT contacts.id, contacts.email, contacts.phone_number, contacts.linked_id
    FROM (
        (SELECT c.id, c.email, c.phone_number, c.linked_id, c.created_at FROM contact c WHERE c.id = of_primary
         UNION ALL
         SELECT c.id, c.email, c.phone_number, c.linked_id, c.created_at FROM contact c WHERE c.linked_id = of_primary)
        -- A subquery: the planner would estimate a bare parameter, and plan the query anew for each request.
        LIMIT (SELECT at_most)
    ) AS contacts
    ORDER BY contacts.linked_id IS NOT NULL, contacts.created_at, contacts.id
$$;



CREATE FUNCTION public.merge_identities(left_value text, right_value text, left_id bigint, right_id bigint, left_root bigint, right_root bigint, request_at timestamp with time zone, request_run bigint, request_line bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.names_value(of_text text, of_value text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
DECLARE
    digits text := regexp_replace(split_part(of_value, ';', 1), '\D', '', 'g');
BEGIN
    IF strpos(of_value, '@') > 0 THEN
        RETURN strpos(lower(of_text), of_value) > 0;
    ELSIF length(digits) >= 7 THEN
        RETURN strpos(regexp_replace(of_text, '\D', '', 'g'), right(digits, 7)) > 0;
    END IF;
    RETURN of_text ~ ('(^|\D)' || digits || '(\D|$)');
END $_$;



CREATE FUNCTION public.new_hubs(of_values text[]) RETURNS text[]
    LANGUAGE sql STABLE
    AS $$
    SELECT array_agg(value) FROM values_over_limit() AS own (value)
    WHERE value = ANY (of_values)
        AND NOT EXISTS (SELECT FROM blocked_value AS b WHERE b.value = own.value AND is_hub)
$$;



CREATE FUNCTION public.primaries_of(of_values text[]) RETURNS bigint[]
    LANGUAGE sql
    AS $$
    SELECT coalesce(array_agg(root ORDER BY place), '{}') FROM (
        SELECT coalesce(linked_id, id) AS root, min(place) AS place
        FROM unnest(of_values) WITH ORDINALITY AS own (value, place)
        JOIN contact ON email = own.value AND anchors_email OR phone_number = own.value AND anchors_phone
        WHERE id > 0
        GROUP BY 1
    ) AS found
$$;



CREATE FUNCTION public.primary_at(of_contact bigint, at_run bigint, at_line bigint) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    WITH RECURSIVE chain (evidence_id, id) AS (
        SELECT 0::bigint, coalesce(initial_linked_id, contact.id) FROM contact WHERE contact.id = of_contact
        UNION ALL
        SELECT merge.* FROM chain, LATERAL (
            -- A primary that was split off may have been merged again: the first merge after the one before.
            SELECT link_evidence.id, primary_id FROM link_evidence
            WHERE merged_id = chain.id AND link_evidence.id > chain.evidence_id
                AND (run_id = at_run AND line > at_line) IS NOT TRUE
            ORDER BY link_evidence.id LIMIT 1
        ) AS merge
    )
    SELECT CASE WHEN EXISTS (SELECT FROM contact_move WHERE contact_move.contact_id = of_contact)
        THEN (SELECT coalesce(linked_id, contact.id) FROM contact WHERE contact.id = of_contact)
        ELSE (SELECT id FROM chain ORDER BY evidence_id DESC LIMIT 1) END
$$;



CREATE FUNCTION public.reconcile(left_value text, right_value text, request_at timestamp with time zone DEFAULT clock_timestamp(), request_run bigint DEFAULT NULL::bigint, request_line bigint DEFAULT NULL::bigint, two_emails boolean DEFAULT false, two_phones boolean DEFAULT false) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
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



CREATE PROCEDURE public.reconcile_batch(IN email_list text, IN phone_list text, IN time_list text, IN run bigint, IN line_list text, IN commit_each boolean, IN profile_version integer, IN profile_region text, INOUT outcomes text DEFAULT ''::text, INOUT primary_ids text DEFAULT ''::text, INOUT contact_ids text DEFAULT ''::text, INOUT sqlstates text[] DEFAULT '{}'::text[], INOUT retries bigint DEFAULT 0)
    LANGUAGE plpgsql
    AS $$
DECLARE
    emails CONSTANT text[] := string_to_array(email_list, E'\n', '');
    phones CONSTANT text[] := string_to_array(phone_list, E'\n', '');
    lines CONSTANT bigint[] := string_to_array(line_list, ',')::bigint[];
    times timestamptz[];
    -- What a request needs: 0 nothing, 1 a contact of a new identity, 2 a contact of a known one, 3 a merge, 4 reconcile(),
    -- 5 reconcile_steered().
    needs smallint[];
    needed smallint;          -- what the request at hand needs
    email_ids bigint[];       -- the contacts that anchor the values
    phone_ids bigint[];
    roots bigint[];           -- the primary that the email leads to, or else the phone number
    other_roots bigint[];     -- the primary that the phone number leads to
    new_emails boolean[];
    new_phones boolean[];
    email_partners boolean[]; -- the contact that anchors the value shows another one beside it
    phone_partners boolean[];
    created timestamptz[];
    new_ids bigint[];
    results reconciliation[];
    result reconciliation;
    new_id bigint;
    rules CONSTANT integer := rules_in_force();
    -- Somebody's constraint that is checked at the COMMIT would end the whole batch there.
    has_deferred_checks CONSTANT boolean := EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid IN ('contact'::regclass, 'link_evidence'::regclass) AND tgdeferrable
    );
    has_checks CONSTANT boolean := rules > 0 OR has_deferred_checks;
    checks_new_values CONSTANT boolean := rules % 2 = 1;
    counts_partners CONSTANT boolean := rules >= 2;
    last_hub CONSTANT bigint := CASE WHEN counts_partners THEN (SELECT max(id) FROM steering_command) END;
    last_decided integer;     -- the last request that the look-up decides
    last_evidence bigint := (SELECT coalesce(max(id), 0) FROM link_evidence);
    gone_root bigint;
    kept_root bigint;
    makes_hub boolean;
    failed_request integer;
    failures integer;
    first_failure timestamptz;
BEGIN
    -- The look-ups are sub-selects of their own (OFFSET 0): joined, they would be planned by statistics, which are of no
    -- use while the tables grow.
    SELECT array_agg(CASE
               -- A value that may become a hub within this batch; a request of several values has many partners for it.
               WHEN counts_partners AND need IN (2, 3) AND (
                   is_one_of_several
                   OR email_root IS NOT NULL
                   AND coalesce((SELECT partners FROM partner_count WHERE value = email), email_partner::integer)
                       + email_requests > rules / 2
                   AND is_full(email, email_partner, email_requests)
                   OR phone_root IS NOT NULL
                   AND coalesce((SELECT partners FROM partner_count WHERE value = phone), phone_partner::integer)
                       + phone_requests > rules / 2
                   AND is_full(phone, phone_partner, phone_requests)
               ) THEN 4::smallint ELSE need END),
           array_agg(email_id), array_agg(phone_id), array_agg(coalesce(email_root, phone_root)), array_agg(phone_root),
           array_agg(email IS NOT NULL AND email_root IS NULL), array_agg(phone IS NOT NULL AND phone_root IS NULL),
           array_agg(email_partner), array_agg(phone_partner), array_agg(at), array_agg(created_at)
    INTO needs, email_ids, phone_ids, roots, other_roots, new_emails, new_phones, email_partners, phone_partners,
         times, created
    FROM (
        WITH request AS MATERIALIZED (
            SELECT * FROM unnest(string_to_array(time_list, ',')::bigint[], emails, phones)
                WITH ORDINALITY AS request (microseconds, email, phone, place)
        ), one_of_several (value) AS MATERIALIZED (
            SELECT unnest(string_to_array(email, E'\x1f')) FROM request WHERE strpos(email, E'\x1f') > 0
            UNION ALL
            SELECT unnest(string_to_array(phone, E'\x1f')) FROM request WHERE strpos(phone, E'\x1f') > 0
        )
        SELECT r.email, r.phone, r.at, email_requests, phone_requests,
               counts_partners AND (r.email IN (SELECT value FROM one_of_several)
                                    OR r.phone IN (SELECT value FROM one_of_several)) AS is_one_of_several,
               e.id AS email_id, p.id AS phone_id, e.root AS email_root, p.root AS phone_root,
               greatest(r.at, e.created_at, p.created_at) AS created_at,
               e.phone_number IS NOT NULL AS email_partner, p.email IS NOT NULL AS phone_partner,
               CASE
                   WHEN strpos(concat(r.email, r.phone), E'\x1f') > 0 THEN 4
                   WHEN r.email IS NOT NULL AND e.root IS NULL
                           AND (email_place > 1 OR r.email IN (SELECT value FROM one_of_several))
                       OR r.phone IS NOT NULL AND p.root IS NULL
                           AND (phone_place > 1 OR r.phone IN (SELECT value FROM one_of_several)) THEN 4
                   WHEN e.root < 0 OR p.root < 0 THEN 5
                   WHEN e.root IS NULL AND p.root IS NULL THEN 1
                   WHEN r.email IS NOT NULL AND e.root IS NULL OR r.phone IS NOT NULL AND p.root IS NULL THEN 2
                   WHEN e.root <> p.root THEN 3
                   -- Known; stated by a run that cannot be undone before this one.
                   WHEN CASE WHEN p.root IS NULL OR e.phone_number = r.phone THEN coalesce(e.run_id, 0)
                             WHEN e.root IS NULL OR p.email = r.email THEN coalesce(p.run_id, 0)
                             ELSE (SELECT coalesce(run_id, 0) FROM link_evidence
                                   WHERE value = r.email AND other_value = r.phone) END <= coalesce(run, 0) THEN 0
                   ELSE 4
               END::smallint AS need
        FROM (
            SELECT place, email, phone, 'epoch'::timestamptz + microseconds * '1 microsecond'::interval AS at,
                   row_number() OVER (PARTITION BY email COLLATE "C" ORDER BY place) AS email_place,
                   row_number() OVER (PARTITION BY phone COLLATE "C" ORDER BY place) AS phone_place,
                   count(*) OVER (PARTITION BY email COLLATE "C") AS email_requests,
                   count(*) OVER (PARTITION BY phone COLLATE "C") AS phone_requests
            FROM request
        ) AS r
        LEFT JOIN LATERAL (
            SELECT id, coalesce(linked_id, id) AS root, phone_number, created_at, run_id
            FROM contact WHERE email = r.email AND anchors_email OFFSET 0
        ) AS e ON true
        LEFT JOIN LATERAL (
            SELECT id, coalesce(linked_id, id) AS root, email, created_at, run_id
            FROM contact WHERE phone_number = r.phone AND anchors_phone OFFSET 0
        ) AS p ON true
        ORDER BY place OFFSET 0
    ) AS looked_up;
    IF needs IS NULL THEN
        RETURN;
    END IF;
    new_ids := array_fill(NULL::bigint, ARRAY[cardinality(needs)]);
    results := array_fill(NULL::reconciliation, ARRAY[cardinality(needs)]);
    IF profile_version IS NOT NULL THEN
        needs := array_fill(4::smallint, ARRAY[cardinality(needs)]);
    END IF;
    last_decided := (SELECT max(place) FROM unnest(needs) WITH ORDINALITY AS request (need, place) WHERE need < 4);

    -- An expression costs about half a microsecond after each COMMIT, so a request that goes well evaluates few of them.
    FOR i IN 1 .. cardinality(needs) LOOP
        needed := needs[i];
        IF needed = 0 THEN
            IF commit_each THEN
                COMMIT;
            END IF;
            CONTINUE;
        END IF;
        LOOP
            BEGIN
                IF checks_new_values THEN
                    IF needed < 4 AND num_nonnulls(VARIADIC rules_for_new_values(
                        emails[i], phones[i], new_emails[i], new_phones[i])) > 0 THEN
                        needed := 4;
                    END IF;
                END IF;
                IF needed = 1 THEN
                    INSERT INTO contact (email, phone_number, link_precedence, anchors_email, anchors_phone,
                                         run_id, line, created_at, updated_at)
                    VALUES (emails[i], phones[i], 'primary', new_emails[i], new_phones[i],
                            run, lines[i], times[i], times[i])
                    RETURNING id INTO new_id;
                ELSIF needed = 2 THEN
                    INSERT INTO contact (email, phone_number, linked_id, initial_linked_id, link_precedence,
                                         anchors_email, anchors_phone, run_id, line, created_at, updated_at)
                    VALUES (emails[i], phones[i], roots[i], roots[i], 'secondary',
                            new_emails[i], new_phones[i], run, lines[i], created[i], created[i])
                    RETURNING id INTO new_id;
                ELSIF needed = 3 AND roots[i] <> other_roots[i] THEN
                    gone_root := merge_identities(emails[i], phones[i], email_ids[i], phone_ids[i],
                                                  roots[i], other_roots[i], times[i], run, lines[i]);
                    IF gone_root > 0 IS NOT TRUE THEN
                        RAISE EXCEPTION 'the identities have changed' USING ERRCODE = 'serialization_failure';
                    END IF;
                ELSIF needed = 5 THEN
                    result := reconcile_steered(emails[i], phones[i], email_ids[i], phone_ids[i], times[i], run, lines[i],
                                                false, false);
                    IF result.outcome IS NULL THEN
                        RAISE EXCEPTION 'a rule has gone' USING ERRCODE = 'serialization_failure';
                    END IF;
                ELSE
                    needed := 4;
                    IF profile_version IS NOT NULL THEN
                        PERFORM claim_profile(profile_version, profile_region);
                    END IF;
                    IF failed_request = i THEN
                        PERFORM lock_primaries(string_to_array(emails[i], E'\x1f'), string_to_array(phones[i], E'\x1f'));
                    END IF;
                    IF strpos(concat(emails[i], phones[i]), E'\x1f') > 0 THEN
                        result := reconcile_request(string_to_array(emails[i], E'\x1f'), string_to_array(phones[i], E'\x1f'),
                                                    times[i], run, lines[i]);
                    ELSE
                        result := reconcile(emails[i], phones[i], times[i], run, lines[i]);
                    END IF;
                END IF;
                IF has_checks OR rules_in_force() > 0 THEN
                    -- After the INSERT, which keeps commands from changing rules until the COMMIT. Short conditions: each
                    -- costs by its length, also the part of it that is not reached.
                    IF rules_in_force() <> rules AND needed < 4 THEN
                        RAISE EXCEPTION 'the rules have changed' USING ERRCODE = 'serialization_failure';
                    END IF;
                    IF checks_new_values THEN
                        IF needed < 4 AND num_nonnulls(VARIADIC rules_for_new_values(
                            emails[i], phones[i], new_emails[i], new_phones[i])) > 0 THEN
                            RAISE EXCEPTION 'a rule concerns the request' USING ERRCODE = 'serialization_failure';
                        END IF;
                    END IF;
                    IF counts_partners THEN
                        IF needed = 2 THEN
                            IF new_emails[i] THEN
                                makes_hub := count_partner(phones[i], phone_partners[i]);
                            ELSE
                                makes_hub := count_partner(emails[i], email_partners[i]);
                            END IF;
                            makes_hub := makes_hub AND new_hubs(ARRAY[emails[i], phones[i]]) IS NOT NULL;
                        ELSIF needed = 3 THEN
                            makes_hub := count_pair(emails[i], email_partners[i], phones[i], phone_partners[i]) IS NOT NULL;
                        ELSE
                            makes_hub := false;
                        END IF;
                        IF makes_hub THEN
                            RAISE EXCEPTION 'the request makes a hub' USING ERRCODE = 'serialization_failure';
                        END IF;
                    END IF;
                    IF has_deferred_checks THEN
                        SET CONSTRAINTS ALL IMMEDIATE;
                    END IF;
                END IF;
                EXIT;
            EXCEPTION
                -- 23G01: a command has moved a value at the same moment.
                WHEN deadlock_detected OR serialization_failure OR foreign_key_violation OR unique_violation
                    OR lock_not_available OR SQLSTATE '23G01' THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    IF needed <> 4 THEN
                        needed := 4;
                    ELSE
                        IF failed_request IS DISTINCT FROM i THEN
                            failed_request := i;
                            failures := 0;
                            first_failure := clock_timestamp();
                        END IF;
                        failures := failures + 1;
                        EXIT WHEN failures >= CASE WHEN left(SQLSTATE, 2) = '23' THEN 50 ELSE 300 END
                            OR clock_timestamp() > first_failure + '5 minutes'::interval;
                        PERFORM pg_sleep(random() * least(failures, 50) / 1000);
                    END IF;
                    retries := retries + 1;
                WHEN OTHERS THEN
                    IF left(SQLSTATE, 2) IN ('08', '25', '53', '57', '58', 'F0', 'XX')
                        OR SQLSTATE IN ('42P01', '42703', '42883', 'ID001', 'ID003') THEN
                        RAISE;
                    END IF;
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    needed := 4;
                    EXIT;
            END;
        END LOOP;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        IF commit_each THEN
            COMMIT;
        END IF;
        IF needed < 3 THEN
            new_ids[i] := new_id;
            CONTINUE;
        ELSIF needed = 3 THEN
            kept_root := CASE WHEN gone_root = roots[i] THEN other_roots[i] ELSE roots[i] END;
            roots[i] := kept_root;
            other_roots[i] := kept_root;
            IF gone_root = ANY (roots) OR gone_root = ANY (other_roots) THEN
                roots := roots[:i] || array_replace(roots[i + 1:], gone_root, kept_root);
                other_roots := array_replace(other_roots, gone_root, kept_root);
            END IF;
            CONTINUE;
        END IF;
        needs[i] := 4;
        results[i] := result;
        IF counts_partners THEN
            IF last_hub IS DISTINCT FROM (SELECT max(id) FROM steering_command) THEN
                -- Identities were worked out again, and which ones is not known here.
                needs := needs[:i] || array_fill(4::smallint, ARRAY[cardinality(needs) - i]);
                CONTINUE;
            END IF;
        END IF;
        IF i < last_decided AND result.outcome IN ('created', 'merged') THEN
            -- The requests that follow meet the identities that were merged under their new primaries.
            FOR gone_root, kept_root IN
                SELECT merged_id, primary_id FROM link_evidence
                WHERE id > last_evidence AND merged_id IS NOT NULL ORDER BY id
            LOOP
                roots := roots[:i] || array_replace(roots[i + 1:], gone_root, kept_root);
                other_roots := array_replace(other_roots, gone_root, kept_root);
            END LOOP;
            -- A request of several values stores many rows of evidence: they are looked at once.
            last_evidence := (SELECT coalesce(max(id), 0) FROM link_evidence);
        END IF;
    END LOOP;

    SELECT string_agg(CASE need WHEN 0 THEN 'u' WHEN 1 THEN 'c' WHEN 2 THEN 'l' WHEN 3 THEN 'm'
                           ELSE left(answer.outcome, 1) END, ''
                      ORDER BY place),
           string_agg(coalesce(CASE WHEN need = 1 THEN stored WHEN need < 4 THEN root ELSE answer.primary_id END::text, ''), ','
                      ORDER BY place),
           string_agg(coalesce(stored::text, array_to_string(answer.contact_ids, ' '), answer.contact_id::text, ''), ','
                      ORDER BY place),
           coalesce(array_agg(split_part(answer.outcome, ' ', 2) ORDER BY place)
                    FILTER (WHERE answer.outcome LIKE 'refused%'), '{}')
    INTO outcomes, primary_ids, contact_ids, sqlstates
    FROM unnest(needs, roots, new_ids) WITH ORDINALITY AS request (need, root, stored, place)
    LEFT JOIN unnest(results) WITH ORDINALITY AS answer (outcome, primary_id, contact_id, contact_ids, place) USING (place);
END $$;



CREATE FUNCTION public.reconcile_request(emails text[], phones text[], request_at timestamp with time zone DEFAULT clock_timestamp(), request_run bigint DEFAULT NULL::bigint, request_line bigint DEFAULT NULL::bigint) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.reconcile_ruled(left_value text, right_value text, rules text[], request_at timestamp with time zone, request_run bigint, request_line bigint) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.reconcile_steered(left_value text, right_value text, left_id bigint, right_id bigint, request_at timestamp with time zone, request_run bigint, request_line bigint, two_emails boolean, two_phones boolean) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.reconcile_value(of_value text, anchor_id bigint, request_at timestamp with time zone, request_run bigint, request_line bigint) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.recount_partners() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM partner_count;
    IF EXISTS (SELECT FROM link_policy WHERE num_nonnulls(email_limit, phone_limit) > 0) THEN
        INSERT INTO partner_count (value, partners)
        SELECT value, partners
        FROM (
            SELECT value, count(*) AS partners
            FROM (SELECT value, other_value FROM stated_pairs()
                  UNION ALL SELECT other_value, value FROM stated_pairs()) AS ways
            GROUP BY value
        ) AS counted
        LEFT JOIN (
            SELECT email AS anchored FROM contact WHERE anchors_email AND phone_number IS NOT NULL
            UNION ALL
            SELECT phone_number FROM contact WHERE anchors_phone AND email IS NOT NULL
        ) AS beside ON anchored = value
        WHERE partners > 1 OR anchored IS NULL;
    END IF;
END $$;



CREATE FUNCTION public.refuse_two_identities() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION 'an identifier would lead to two identities'
        USING ERRCODE = '23G01',
              HINT = 'a known value stays in its identity; reconcile() links and merges';
END $$;



CREATE FUNCTION public.release_placeholders(ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    DELETE FROM contact WHERE id = ANY (ids) AND id < 0
        AND NOT EXISTS (SELECT FROM blocked_value WHERE value IN (email, phone_number));
END $$;



CREATE FUNCTION public.relink_pair(left_value text, right_value text, command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    roots bigint[] := lock_identities(ARRAY[left_value, right_value]);
BEGIN
    DELETE FROM unlinked_pair WHERE value = left_value AND other_value = right_value;
    IF FOUND THEN
        PERFORM rework(roots, ARRAY[left_value, right_value], command);
    END IF;
END $$;



CREATE FUNCTION public.remove_pattern(old_pattern text, command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    old_id bigint;
    matching text[];
BEGIN
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    SELECT id INTO old_id FROM block_pattern WHERE pattern = old_pattern;
    IF old_id IS NULL THEN
        RETURN;
    END IF;
    matching := ARRAY(SELECT value FROM blocked_value WHERE pattern_id = old_id);
    -- Without its foreign key for a moment: the values get another pattern, or none, below.
    UPDATE block_pattern SET pattern = '' WHERE id = old_id;
    PERFORM unblock_values(matching, command, by_pattern => true);
    DELETE FROM block_pattern WHERE id = old_id;
    PERFORM set_rules_in_force();
END $$;



CREATE FUNCTION public.require_exclusive(is_exclusive boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT is_exclusive THEN
        RAISE EXCEPTION 'a value has become a hub' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;



CREATE FUNCTION public.restate(left_value text, right_value text, request_at timestamp with time zone, request_run bigint, request_line bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO restatement AS r (value, other_value, run_id, line, created_at)
    VALUES (coalesce(left_value, right_value), CASE WHEN left_value IS NULL THEN '' ELSE coalesce(right_value, '') END,
            request_run, request_line, request_at)
    ON CONFLICT (value, other_value) DO UPDATE SET
        run_id = excluded.run_id, line = excluded.line, created_at = excluded.created_at
    WHERE coalesce(excluded.run_id, 0) < coalesce(r.run_id, 0);
END $$;



CREATE FUNCTION public.rework(roots bigint[], more_values text[], command bigint, gone_values text[] DEFAULT '{}'::text[], gone_run bigint DEFAULT NULL::bigint) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
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



CREATE FUNCTION public.rule_for_new_value(new_value text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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



CREATE FUNCTION public.rules_for_new_values(left_value text, right_value text, is_left_new boolean, is_right_new boolean) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN ARRAY[CASE WHEN is_left_new THEN rule_for_new_value(left_value) END,
                 CASE WHEN is_right_new THEN rule_for_new_value(right_value) END];
END $$;



CREATE FUNCTION public.rules_in_force() RETURNS integer
    LANGUAGE sql STABLE
    AS $$ SELECT 0 $$;



CREATE FUNCTION public.set_aside_new(of_value text, other_value text, request_at timestamp with time zone, request_run bigint, request_line bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.set_hub_limits(of_emails integer, of_phones integer, command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    UPDATE link_policy SET email_limit = of_emails, phone_limit = of_phones;
    PERFORM set_rules_in_force();
    PERFORM recount_partners();
    PERFORM apply_hub_limits(command);
END $$;



CREATE FUNCTION public.set_rules_in_force() RETURNS void
    LANGUAGE plpgsql
    AS $_$
DECLARE
    new_values boolean := EXISTS (SELECT FROM block_pattern) OR EXISTS (SELECT FROM forgotten_value);
    lowest_limit integer := (SELECT coalesce(least(email_limit, phone_limit), 0) FROM link_policy);
BEGIN
    IF rules_in_force() <> new_values::integer + 2 * lowest_limit THEN
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION rules_in_force() RETURNS integer LANGUAGE sql STABLE AS $body$ SELECT %s $body$',
            new_values::integer + 2 * lowest_limit
        );
    END IF;
END $_$;



CREATE FUNCTION public.stated_pairs() RETURNS TABLE(value text, other_value text)
    LANGUAGE sql STABLE
    AS $$
    SELECT email, phone_number FROM contact
    WHERE email IS NOT NULL AND phone_number IS NOT NULL AND id > 0
    UNION
    SELECT email, phone_number FROM set_aside_contact WHERE email IS NOT NULL AND phone_number IS NOT NULL
    UNION
    SELECT value, other_value FROM link_evidence
$$;



CREATE FUNCTION public.stop_hubs(hubs text[], request_run bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    command bigint;
BEGIN
    -- A caller with few rights could pass any value: only what the counts say stops.
    hubs := ARRAY(SELECT value FROM values_over_limit() AS own (value) WHERE value = ANY (hubs));
    INSERT INTO steering_command (verb, run_id) VALUES ('hub', request_run) RETURNING id INTO command;
    PERFORM block_values(hubs, command, false, NULL, true);
END $$;



CREATE FUNCTION public.unblock_values(of_values text[], command bigint, by_command boolean DEFAULT false, by_pattern boolean DEFAULT false, as_hub boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    roots bigint[] := lock_with_held_partners(of_values);
    released text[];
BEGIN
    WITH reasons AS MATERIALIZED (
        SELECT value,
               CASE WHEN NOT by_command THEN command_id END AS command_id,
               -- The first pattern that matches, also where the value was blocked before it was known.
               (SELECT min(id) FROM block_pattern WHERE b.value ~ whole_value(pattern)) AS pattern_id,
               is_hub AND NOT as_hub AS is_hub
        FROM blocked_value AS b WHERE value = ANY (of_values)
    ), kept AS (
        UPDATE blocked_value AS b SET command_id = r.command_id, pattern_id = r.pattern_id, is_hub = r.is_hub
        FROM reasons AS r
        WHERE b.value = r.value AND (num_nonnulls(r.command_id, r.pattern_id) > 0 OR r.is_hub)
    ), dropped AS (
        DELETE FROM blocked_value AS b USING reasons AS r
        WHERE b.value = r.value AND NOT (num_nonnulls(r.command_id, r.pattern_id) > 0 OR r.is_hub)
        RETURNING b.value
    )
    SELECT array_agg(value) INTO released FROM dropped;
    IF released IS NOT NULL THEN
        PERFORM rework(roots, released, command);
    END IF;
END $$;



CREATE FUNCTION public.undo_run(run bigint, command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
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



CREATE FUNCTION public.unlink_pair(left_value text, right_value text, command bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    of_values text[] := ARRAY[left_value, right_value];
    roots bigint[];
    unknown text[];
BEGIN
    INSERT INTO unlinked_pair (value, other_value, command_id) VALUES (left_value, right_value, command)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR attempt IN 1 .. 50 LOOP
        roots := lock_identities(of_values);
        unknown := without_anchor(of_values);
        IF unknown = '{}' THEN
            IF cardinality(roots) = 1 THEN
                PERFORM rework(roots, '{}', command);
            END IF;
            RETURN;
        END IF;
        -- Whoever states a value for the first time has to meet the rule.
        PERFORM keep_placeholders(unknown);
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;



CREATE FUNCTION public.values_over_limit() RETURNS SETOF text
    LANGUAGE sql STABLE
    AS $$
    SELECT value FROM partner_count AS p, link_policy
    WHERE partners > CASE WHEN strpos(value, '@') > 0 THEN email_limit ELSE phone_limit END
        AND NOT EXISTS (SELECT FROM hub_exemption AS h WHERE h.value = p.value)
$$;



CREATE FUNCTION public.wait_for_disk() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN; -- a standby has only what is on the disk of its primary
    END IF;
    IF pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() OR current_setting('synchronous_standby_names') <> '' THEN
        PERFORM set_config('synchronous_commit', commit, true)
        FROM current_setting('identity.durable_commit', true) AS commit WHERE commit <> '';
        -- A message that nobody has to read: only a transaction that has written something waits.
        PERFORM pg_logical_emit_message(true, 'identity', '');
    END IF;
END $$;



CREATE FUNCTION public.whole_value(pattern text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
    SELECT '^(?:' || pattern || ')$'
$_$;



CREATE FUNCTION public.with_held_partners(of_values text[]) RETURNS text[]
    LANGUAGE sql
    AS $$
    SELECT ARRAY(
        SELECT unnest(of_values)
        UNION
        SELECT s.phone_number FROM unnest(of_values) AS own (value),
            LATERAL (SELECT phone_number FROM set_aside_contact WHERE email = own.value OFFSET 0) AS s
        WHERE s.phone_number IS NOT NULL
        UNION
        SELECT s.email FROM unnest(of_values) AS own (value),
            LATERAL (SELECT email FROM set_aside_contact WHERE phone_number = own.value OFFSET 0) AS s
        WHERE s.email IS NOT NULL
        UNION
        SELECT e.other_value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT other_value FROM link_evidence WHERE link_evidence.value = own.value AND is_held OFFSET 0) AS e
        UNION
        SELECT e.value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT link_evidence.value FROM link_evidence WHERE other_value = own.value AND is_held OFFSET 0) AS e
        ORDER BY 1
    )
$$;



CREATE FUNCTION public.with_unlinked_partners(of_values text[]) RETURNS text[]
    LANGUAGE sql
    AS $$
    SELECT ARRAY(
        SELECT unnest(of_values)
        UNION
        SELECT u.other_value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT other_value FROM unlinked_pair WHERE unlinked_pair.value = own.value OFFSET 0) AS u
        UNION
        SELECT u.value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT unlinked_pair.value FROM unlinked_pair WHERE other_value = own.value OFFSET 0) AS u
        ORDER BY 1
    )
$$;



CREATE FUNCTION public.without_anchor(of_values text[]) RETURNS text[]
    LANGUAGE sql
    AS $$
    SELECT ARRAY(
        SELECT own.value FROM unnest(of_values) AS own (value)
        WHERE NOT EXISTS (SELECT FROM contact WHERE email = own.value AND anchors_email)
          AND NOT EXISTS (SELECT FROM contact WHERE phone_number = own.value AND anchors_phone)
    )
$$;



CREATE FUNCTION public.without_value(document jsonb, of_value text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF length(of_value) < 7 AND strpos(of_value, '@') = 0 THEN
        RETURN document;
    END IF;
    RETURN regexp_replace(document::text, '***=' || ltrim(of_value, '+'), 'forgotten', 'gi')::jsonb;
END $$;



CREATE FUNCTION public.written_in(stamp xid8, row_xmin xid) RETURNS xid8
    LANGUAGE sql
    AS $$
    SELECT CASE
        WHEN stamp <= pg_current_xact_id() AND age(stamp::xid) >= age(row_xmin) THEN stamp
        ELSE least(stamp, (pg_current_xact_id()::text::bigint
                           - ((pg_current_xact_id()::text::bigint - row_xmin::text::bigint) & 4294967295))::text::xid8)
    END
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;


CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);



CREATE TABLE public.block_pattern (
    id bigint NOT NULL,
    pattern text NOT NULL,
    command_id bigint NOT NULL
);



ALTER TABLE public.block_pattern ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.block_pattern_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.blocked_value (
    command_id bigint,
    pattern_id bigint,
    is_hub boolean DEFAULT false NOT NULL,
    value text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT blocked_value_has_a_reason CHECK (((num_nonnulls(command_id, pattern_id) > 0) OR is_hub))
);



CREATE TABLE public.contact (
    id bigint NOT NULL,
    linked_id bigint,
    initial_linked_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    link_precedence public.link_precedence NOT NULL,
    linked_precedence public.link_precedence GENERATED ALWAYS AS (
CASE
    WHEN (linked_id IS NOT NULL) THEN 'primary'::public.link_precedence
    ELSE NULL::public.link_precedence
END) STORED,
    anchors_email boolean DEFAULT true NOT NULL,
    anchors_phone boolean DEFAULT true NOT NULL,
    email text COLLATE pg_catalog."C",
    phone_number text COLLATE pg_catalog."C",
    stored_in xid8 DEFAULT pg_current_xact_id(),
    CONSTRAINT contact_has_an_identifier CHECK ((COALESCE(LEAST(email, phone_number), ''::text) <> ''::text)),
    CONSTRAINT contact_primary_has_no_link CHECK ((((link_precedence = 'primary'::public.link_precedence) = (linked_id IS NULL)) AND ((linked_id > 0) IS NOT FALSE)))
);



ALTER TABLE public.contact ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.contact_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.contact_move (
    id bigint NOT NULL,
    contact_id bigint NOT NULL,
    from_primary_id bigint,
    to_primary_id bigint,
    command_id bigint,
    moved_at timestamp with time zone NOT NULL
);



ALTER TABLE public.contact_move ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.contact_move_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.forget_key (
    only_row boolean DEFAULT true NOT NULL,
    key bytea,
    fingerprint bytea NOT NULL,
    CONSTRAINT forget_key_one_row CHECK (only_row)
);



CREATE TABLE public.forgotten_value (
    command_id bigint NOT NULL,
    hash bytea NOT NULL
);



CREATE TABLE public.former_contact (
    id bigint NOT NULL,
    contact_id bigint NOT NULL,
    primary_id bigint,
    next_primary_id bigint,
    command_id bigint,
    replaced_in xid8 DEFAULT pg_current_xact_id() NOT NULL,
    replaced_at timestamp with time zone NOT NULL,
    contact_mark bigint NOT NULL,
    evidence_mark bigint NOT NULL,
    initial_linked_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone,
    updated_at timestamp with time zone,
    stored_in xid8,
    anchors_email boolean,
    anchors_phone boolean,
    email text COLLATE pg_catalog."C",
    phone_number text COLLATE pg_catalog."C"
);



ALTER TABLE public.former_contact ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.former_contact_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.former_evidence (
    id bigint NOT NULL,
    evidence_id bigint NOT NULL,
    replaced_in xid8 DEFAULT pg_current_xact_id() NOT NULL,
    replaced_at timestamp with time zone NOT NULL,
    primary_id bigint,
    merged_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone NOT NULL,
    stored_in xid8,
    value text COLLATE pg_catalog."C",
    other_value text COLLATE pg_catalog."C",
    is_held boolean NOT NULL
);



ALTER TABLE public.former_evidence ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.former_evidence_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.hub_exemption (
    command_id bigint NOT NULL,
    value text NOT NULL COLLATE pg_catalog."C"
);



CREATE TABLE public.import_run (
    id bigint NOT NULL,
    status text NOT NULL,
    inputs jsonb NOT NULL,
    fingerprint text NOT NULL,
    lock_key bigint NOT NULL,
    checkpoint jsonb,
    rows jsonb NOT NULL,
    seconds double precision DEFAULT 0 NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    options jsonb,
    error jsonb,
    start_snapshot text,
    end_snapshot text,
    CONSTRAINT import_run_status CHECK ((status = ANY (ARRAY['running'::text, 'finished'::text, 'stopped'::text, 'failed'::text, 'undone'::text])))
);



ALTER TABLE public.import_run ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.import_run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.link_evidence (
    id bigint NOT NULL,
    primary_id bigint,
    merged_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone NOT NULL,
    value text NOT NULL COLLATE pg_catalog."C",
    other_value text NOT NULL COLLATE pg_catalog."C",
    is_held boolean DEFAULT false NOT NULL,
    stored_in xid8 DEFAULT pg_current_xact_id(),
    CONSTRAINT link_evidence_pair_order CHECK ((ROW((strpos(value, '@'::text) = 0), value) < ROW((strpos(other_value, '@'::text) = 0), other_value)))
);



ALTER TABLE public.link_evidence ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.link_evidence_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.link_policy (
    only_row boolean DEFAULT true NOT NULL,
    email_limit integer,
    phone_limit integer,
    CONSTRAINT link_policy_limits CHECK ((LEAST(email_limit, phone_limit) >= 1)),
    CONSTRAINT link_policy_one_row CHECK (only_row)
);



CREATE TABLE public.normalization_profile (
    only_row boolean DEFAULT true NOT NULL,
    version integer NOT NULL,
    region text,
    CONSTRAINT normalization_profile_one_row CHECK (only_row)
);



CREATE TABLE public.partner_count (
    partners integer NOT NULL,
    value text NOT NULL COLLATE pg_catalog."C"
);



CREATE SEQUENCE public.placeholder_id
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;



CREATE TABLE public.restatement (
    run_id bigint,
    line bigint,
    created_at timestamp with time zone NOT NULL,
    value text NOT NULL COLLATE pg_catalog."C",
    other_value text NOT NULL COLLATE pg_catalog."C"
);



CREATE TABLE public.set_aside_contact (
    id bigint NOT NULL,
    initial_linked_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone NOT NULL,
    anchors_email boolean NOT NULL,
    anchors_phone boolean NOT NULL,
    email text COLLATE pg_catalog."C",
    phone_number text COLLATE pg_catalog."C",
    CONSTRAINT set_aside_contact_has_an_identifier CHECK ((COALESCE(LEAST(email, phone_number), ''::text) <> ''::text))
);



CREATE SEQUENCE public.set_aside_contact_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;



ALTER SEQUENCE public.set_aside_contact_id_seq OWNED BY public.set_aside_contact.id;



CREATE TABLE public.steering_command (
    id bigint NOT NULL,
    verb text NOT NULL,
    detail text,
    reason text,
    run_id bigint,
    role_name text DEFAULT SESSION_USER NOT NULL,
    ran_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);



ALTER TABLE public.steering_command ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.steering_command_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);



CREATE TABLE public.unlinked_pair (
    command_id bigint NOT NULL,
    value text NOT NULL COLLATE pg_catalog."C",
    other_value text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT unlinked_pair_order CHECK ((ROW((strpos(value, '@'::text) = 0), value) < ROW((strpos(other_value, '@'::text) = 0), other_value)))
);



ALTER TABLE ONLY public.set_aside_contact ALTER COLUMN id SET DEFAULT nextval('public.set_aside_contact_id_seq'::regclass);



INSERT INTO public.alembic_version VALUES ('0005');









INSERT INTO public.contact VALUES (1, NULL, NULL, 1, 2, '2026-11-30 14:04:12.042027+00', '2026-11-30 14:04:12.042027+00', NULL, 'primary', DEFAULT, true, true, 'lorraine@hillvalley.edu', '123456', '31303366');
INSERT INTO public.contact VALUES (2, 1, 1, 1, 3, '2026-11-30 14:04:12.042028+00', '2026-11-30 14:04:12.042028+00', NULL, 'secondary', DEFAULT, true, false, 'mcfly@hillvalley.edu', '123456', '31303368');
INSERT INTO public.contact VALUES (3, NULL, NULL, 1, 4, '2026-11-30 14:04:12.042029+00', '2026-11-30 14:04:12.042029+00', NULL, 'primary', DEFAULT, true, true, 'george@hillvalley.edu', '919191', '31303370');
INSERT INTO public.contact VALUES (4, 3, NULL, 1, 5, '2026-11-30 14:04:12.04203+00', '2026-11-30 14:04:12.042031+00', NULL, 'secondary', DEFAULT, true, true, 'biffsucks@hillvalley.edu', '717171', '31303372');
INSERT INTO public.contact VALUES (5, NULL, NULL, 1, 7, '2026-11-30 14:04:12.042032+00', '2026-11-30 14:04:12.042032+00', NULL, 'primary', DEFAULT, true, true, 'wilbur.wilson@enchantment.example', '5305550188', '31303376');
INSERT INTO public.contact VALUES (6, NULL, NULL, 1, 8, '2026-11-30 14:04:12.042033+00', '2026-11-30 14:04:12.042033+00', NULL, 'primary', DEFAULT, true, true, 'jennifer.brown@twinpines.example', '2095550141', '31303378');
INSERT INTO public.contact VALUES (7, NULL, NULL, 1, 9, '2026-11-30 14:04:12.042034+00', '2026-11-30 14:04:12.042034+00', NULL, 'primary', DEFAULT, true, true, 'seamus.clayton@twinpines.example', '2095550137', '31303380');
INSERT INTO public.contact VALUES (8, NULL, NULL, 1, 10, '2026-11-30 14:04:12.042035+00', '2026-11-30 14:04:12.042035+00', NULL, 'primary', DEFAULT, true, true, 'sally.wilson@twinpines.example', '5305550159', '31303382');
INSERT INTO public.contact VALUES (9, NULL, NULL, 1, 11, '2026-11-30 14:04:12.042036+00', '2026-11-30 14:04:12.042036+00', NULL, 'primary', DEFAULT, true, true, 'marty.mcfly@enchantment.example', '5305550158', '31303384');
INSERT INTO public.contact VALUES (10, NULL, NULL, 1, 13, '2026-11-30 14:04:12.042038+00', '2026-11-30 14:04:12.042038+00', NULL, 'primary', DEFAULT, true, true, 'clara.wilson@enchantment.example', '5305550100', '31303388');
INSERT INTO public.contact VALUES (11, NULL, NULL, 1, 15, '2026-11-30 14:04:12.04204+00', '2026-11-30 14:04:12.04204+00', NULL, 'primary', DEFAULT, true, true, 'otis.peabody@twinpines.example', '2095550183', '31303392');
INSERT INTO public.contact VALUES (12, NULL, NULL, 1, 16, '2026-11-30 14:04:12.042041+00', '2026-11-30 14:04:12.042041+00', NULL, 'primary', DEFAULT, true, true, 'marty.tannen@hillvalley.edu', '2095550116', '31303394');
INSERT INTO public.contact VALUES (17, NULL, NULL, 1, 21, '2026-11-30 14:04:12.042046+00', '2026-11-30 14:04:12.042046+00', NULL, 'primary', DEFAULT, true, true, 'lou.parker@hillvalley.edu', '2095550185', '31303404');
INSERT INTO public.contact VALUES (18, 7, 7, 1, 22, '2026-11-30 14:04:12.042047+00', '2026-11-30 14:04:12.042047+00', NULL, 'secondary', DEFAULT, true, false, 'copernicus.parker@twinpines.example', '2095550137', '31303406');
INSERT INTO public.contact VALUES (19, 7, 7, 1, 23, '2026-11-30 14:04:12.042048+00', '2026-11-30 14:04:12.042048+00', NULL, 'secondary', DEFAULT, false, true, 'copernicus.parker@twinpines.example', '2095550194', '31303408');
INSERT INTO public.contact VALUES (20, 7, 7, 1, 24, '2026-11-30 14:04:12.042049+00', '2026-11-30 14:04:12.042049+00', NULL, 'secondary', DEFAULT, true, false, 'marvin.peabody@twinpines.example', '2095550137', '31303410');
INSERT INTO public.contact VALUES (21, NULL, NULL, 1, 25, '2026-11-30 14:04:12.04205+00', '2026-11-30 14:04:12.04205+00', NULL, 'primary', DEFAULT, true, true, 'griff.brown@enchantment.example', '2095550138', '31303412');
INSERT INTO public.contact VALUES (22, NULL, NULL, 1, 26, '2026-11-30 14:04:12.042051+00', '2026-11-30 14:04:12.042051+00', NULL, 'primary', DEFAULT, true, true, 'needles.tannen@lyon-estates.example', '2095550142', '31303414');
INSERT INTO public.contact VALUES (23, NULL, NULL, 1, 27, '2026-11-30 14:04:12.042052+00', '2026-11-30 14:04:12.042052+00', NULL, 'primary', DEFAULT, true, true, 'clara.strickland@lyon-estates.example', '5305550103', '31303416');
INSERT INTO public.contact VALUES (24, NULL, NULL, 1, 28, '2026-11-30 14:04:12.042053+00', '2026-11-30 14:04:12.042053+00', NULL, 'primary', DEFAULT, true, true, 'otis.baines@hillvalley.edu', '5305550199', '31303418');
INSERT INTO public.contact VALUES (25, 21, 21, 1, 29, '2026-11-30 14:04:12.042054+00', '2026-11-30 14:04:12.042054+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550109', '31303420');
INSERT INTO public.contact VALUES (27, NULL, NULL, 1, 31, '2026-11-30 14:04:12.042056+00', '2026-11-30 14:04:12.042056+00', NULL, 'primary', DEFAULT, true, false, 'griff.baines@hillvalley.example', NULL, '31303424');
INSERT INTO public.contact VALUES (29, NULL, NULL, 1, 33, '2026-11-30 14:04:12.042058+00', '2026-11-30 14:04:12.042058+00', NULL, 'primary', DEFAULT, true, true, 'copernicus.clayton@enchantment.example', '2095550168', '31303428');
INSERT INTO public.contact VALUES (30, 17, 17, 1, 34, '2026-11-30 14:04:12.042059+00', '2026-11-30 14:04:12.042059+00', NULL, 'secondary', DEFAULT, false, true, 'lou.parker@hillvalley.edu', '2095550175', '31303430');
INSERT INTO public.contact VALUES (31, NULL, NULL, 1, 35, '2026-11-30 14:04:12.04206+00', '2026-11-30 14:04:12.04206+00', NULL, 'primary', DEFAULT, true, true, 'threedee.baines@hillvalley.example', '5305550123', '31303432');
INSERT INTO public.contact VALUES (14, 10, NULL, 1, 18, '2026-11-30 14:04:12.042043+00', '2026-11-30 14:04:12.042061+00', NULL, 'secondary', DEFAULT, true, true, 'copernicus.strickland@hillvalley.example', '2095550186', '31303398');
INSERT INTO public.contact VALUES (15, 10, 14, 1, 19, '2026-11-30 14:04:12.042044+00', '2026-11-30 14:04:12.042061+00', NULL, 'secondary', DEFAULT, true, false, 'stella.strickland@hillvalley.edu', '2095550186', '31303400');
INSERT INTO public.contact VALUES (16, 10, 14, 1, 20, '2026-11-30 14:04:12.042045+00', '2026-11-30 14:04:12.042061+00', NULL, 'secondary', DEFAULT, true, false, 'doc.baines@hillvalley.edu', '2095550186', '31303402');
INSERT INTO public.contact VALUES (28, 10, 14, 1, 32, '2026-11-30 14:04:12.042057+00', '2026-11-30 14:04:12.042061+00', NULL, 'secondary', DEFAULT, true, false, 'linda.strickland@twinpines.example', '2095550186', '31303426');
INSERT INTO public.contact VALUES (32, 7, 7, 1, 37, '2026-11-30 14:04:12.042062+00', '2026-11-30 14:04:12.042062+00', NULL, 'secondary', DEFAULT, true, false, 'gale.tannen@hillvalley.edu', '2095550137', '31303436');
INSERT INTO public.contact VALUES (33, NULL, NULL, 1, 38, '2026-11-30 14:04:12.042063+00', '2026-11-30 14:04:12.042063+00', NULL, 'primary', DEFAULT, true, true, 'lester.parker@hillvalley.edu', '2095550167', '31303438');
INSERT INTO public.contact VALUES (34, NULL, NULL, 1, 39, '2026-11-30 14:04:12.042064+00', '2026-11-30 14:04:12.042064+00', NULL, 'primary', DEFAULT, true, true, 'milton.parker@hillvalley.example', '5305550141', '31303440');
INSERT INTO public.contact VALUES (35, NULL, NULL, 1, 40, '2026-11-30 14:04:12.042065+00', '2026-11-30 14:04:12.042065+00', NULL, 'primary', DEFAULT, true, true, 'lou.mcfly@twinpines.example', '5305550114', '31303442');
INSERT INTO public.contact VALUES (36, NULL, NULL, 1, 41, '2026-11-30 14:04:12.042066+00', '2026-11-30 14:04:12.042066+00', NULL, 'primary', DEFAULT, true, true, 'einstein.mcfly@hillvalley.example', '2095550135', '31303444');
INSERT INTO public.contact VALUES (37, NULL, NULL, 1, 42, '2026-11-30 14:04:12.042067+00', '2026-11-30 14:04:12.042067+00', NULL, 'primary', DEFAULT, true, true, 'marty.clayton@twinpines.example', '5305550185', '31303446');
INSERT INTO public.contact VALUES (38, 10, 10, 1, 43, '2026-11-30 14:04:12.042068+00', '2026-11-30 14:04:12.042068+00', NULL, 'secondary', DEFAULT, false, true, 'clara.wilson@enchantment.example', '5305550121', '31303448');
INSERT INTO public.contact VALUES (39, NULL, NULL, 1, 44, '2026-11-30 14:04:12.042069+00', '2026-11-30 14:04:12.042069+00', NULL, 'primary', DEFAULT, true, true, 'lester.carruthers@lyon-estates.example', '2095550189', '31303450');
INSERT INTO public.contact VALUES (40, NULL, NULL, 1, 45, '2026-11-30 14:04:12.04207+00', '2026-11-30 14:04:12.04207+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550154', '31303452');
INSERT INTO public.contact VALUES (41, NULL, NULL, 1, 46, '2026-11-30 14:04:12.042071+00', '2026-11-30 14:04:12.042071+00', NULL, 'primary', DEFAULT, true, true, 'emmett.carruthers@hillvalley.example', '5305550109', '31303454');
INSERT INTO public.contact VALUES (26, 22, NULL, 1, 30, '2026-11-30 14:04:12.042055+00', '2026-11-30 14:04:12.042072+00', NULL, 'secondary', DEFAULT, true, true, 'copernicus.tannen@enchantment.example', '5305550137', '31303422');
INSERT INTO public.contact VALUES (42, NULL, NULL, 1, 48, '2026-11-30 14:04:12.042073+00', '2026-11-30 14:04:12.042073+00', NULL, 'primary', DEFAULT, true, true, 'doc.clayton@hillvalley.edu', '2095550107', '31303458');
INSERT INTO public.contact VALUES (43, 33, 33, 1, 49, '2026-11-30 14:04:12.042074+00', '2026-11-30 14:04:12.042074+00', NULL, 'secondary', DEFAULT, true, false, 'dave.parker@hillvalley.edu', '2095550167', '31303460');
INSERT INTO public.contact VALUES (44, 21, 21, 1, 50, '2026-11-30 14:04:12.042075+00', '2026-11-30 14:04:12.042075+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '5305550171', '31303462');
INSERT INTO public.contact VALUES (45, 39, 39, 1, 51, '2026-11-30 14:04:12.042076+00', '2026-11-30 14:04:12.042076+00', NULL, 'secondary', DEFAULT, false, true, 'lester.carruthers@lyon-estates.example', '5305550130', '31303464');
INSERT INTO public.contact VALUES (46, NULL, NULL, 1, 52, '2026-11-30 14:04:12.042077+00', '2026-11-30 14:04:12.042077+00', NULL, 'primary', DEFAULT, true, true, 'biff.clayton@twinpines.example', '2095550178', '31303466');
INSERT INTO public.contact VALUES (13, 11, NULL, 1, 17, '2026-11-30 14:04:12.042042+00', '2026-11-30 14:04:12.042078+00', NULL, 'secondary', DEFAULT, true, true, 'jennifer.clayton@enchantment.example', '2095550136', '31303396');
INSERT INTO public.contact VALUES (49, NULL, NULL, 1, 57, '2026-11-30 14:04:12.042082+00', '2026-11-30 14:04:12.042082+00', NULL, 'primary', DEFAULT, true, true, 'sally.wilson@hillvalley.edu', '5305550178', '31303476');
INSERT INTO public.contact VALUES (50, 7, 7, 1, 58, '2026-11-30 14:04:12.042083+00', '2026-11-30 14:04:12.042083+00', NULL, 'secondary', DEFAULT, false, true, 'copernicus.parker@twinpines.example', '5305550151', '31303478');
INSERT INTO public.contact VALUES (52, NULL, NULL, 1, 60, '2026-11-30 14:04:12.042085+00', '2026-11-30 14:04:12.042085+00', NULL, 'primary', DEFAULT, false, true, NULL, '5305550106', '31303482');
INSERT INTO public.contact VALUES (54, 42, 42, 1, 62, '2026-11-30 14:04:12.042087+00', '2026-11-30 14:04:12.042087+00', NULL, 'secondary', DEFAULT, true, false, 'gale.baines@twinpines.example', '2095550107', '31303486');
INSERT INTO public.contact VALUES (55, 49, 49, 1, 63, '2026-11-30 14:04:12.042088+00', '2026-11-30 14:04:12.042088+00', NULL, 'secondary', DEFAULT, false, true, 'sally.wilson@hillvalley.edu', '5305550134', '31303488');
INSERT INTO public.contact VALUES (56, NULL, NULL, 1, 65, '2026-11-30 14:04:12.04209+00', '2026-11-30 14:04:12.04209+00', NULL, 'primary', DEFAULT, true, false, 'threedee.carruthers@lyon-estates.example', NULL, '31303492');
INSERT INTO public.contact VALUES (57, 11, 11, 1, 66, '2026-11-30 14:04:12.042091+00', '2026-11-30 14:04:12.042091+00', NULL, 'secondary', DEFAULT, true, false, 'sally.mcfly@enchantment.example', '2095550136', '31303494');
INSERT INTO public.contact VALUES (58, NULL, NULL, 1, 67, '2026-11-30 14:04:12.042092+00', '2026-11-30 14:04:12.042092+00', NULL, 'primary', DEFAULT, true, true, 'biff.clayton@enchantment.example', '5305550189', '31303496');
INSERT INTO public.contact VALUES (59, 33, 33, 1, 68, '2026-11-30 14:04:12.042093+00', '2026-11-30 14:04:12.042093+00', NULL, 'secondary', DEFAULT, false, true, 'dave.parker@hillvalley.edu', '5305550152', '31303498');
INSERT INTO public.contact VALUES (60, NULL, NULL, 1, 69, '2026-11-30 14:04:12.042094+00', '2026-11-30 14:04:12.042094+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550130', '31303500');
INSERT INTO public.contact VALUES (48, 22, NULL, 1, 55, '2026-11-30 14:04:12.04208+00', '2026-11-30 14:04:12.042096+00', NULL, 'secondary', DEFAULT, true, true, 'buford.carruthers@hillvalley.edu', '5305550145', '31303472');
INSERT INTO public.contact VALUES (61, NULL, NULL, 1, 72, '2026-11-30 14:04:12.042097+00', '2026-11-30 14:04:12.042097+00', NULL, 'primary', DEFAULT, true, true, 'goldie.baines@hillvalley.edu', '5305550122', '31303506');
INSERT INTO public.contact VALUES (62, NULL, NULL, 1, 73, '2026-11-30 14:04:12.042098+00', '2026-11-30 14:04:12.042098+00', NULL, 'primary', DEFAULT, true, true, 'strickland.tannen@twinpines.example', '2095550120', '31303508');
INSERT INTO public.contact VALUES (63, NULL, NULL, 1, 76, '2026-11-30 14:04:12.042101+00', '2026-11-30 14:04:12.042101+00', NULL, 'primary', DEFAULT, true, true, 'wilbur.tannen@lyon-estates.example', '5305550153', '31303514');
INSERT INTO public.contact VALUES (64, 21, 21, 1, 77, '2026-11-30 14:04:12.042102+00', '2026-11-30 14:04:12.042102+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550133', '31303516');
INSERT INTO public.contact VALUES (65, NULL, NULL, 1, 78, '2026-11-30 14:04:12.042103+00', '2026-11-30 14:04:12.042103+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550111', '31303518');
INSERT INTO public.contact VALUES (66, 21, 21, 1, 79, '2026-11-30 14:04:12.042104+00', '2026-11-30 14:04:12.042104+00', NULL, 'secondary', DEFAULT, true, false, 'marvin.tannen@twinpines.example', '2095550138', '31303520');
INSERT INTO public.contact VALUES (67, NULL, NULL, 1, 80, '2026-11-30 14:04:12.042105+00', '2026-11-30 14:04:12.042105+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550144', '31303522');
INSERT INTO public.contact VALUES (68, NULL, NULL, 1, 81, '2026-11-30 14:04:12.042106+00', '2026-11-30 14:04:12.042106+00', NULL, 'primary', DEFAULT, true, true, 'marty.baines@hillvalley.example', '5305550104', '31303524');
INSERT INTO public.contact VALUES (47, 17, NULL, 1, 54, '2026-11-30 14:04:12.042079+00', '2026-11-30 14:04:12.042107+00', NULL, 'secondary', DEFAULT, true, true, 'marty.wilson@enchantment.example', '2095550145', '31303470');
INSERT INTO public.contact VALUES (51, 17, 47, 1, 59, '2026-11-30 14:04:12.042084+00', '2026-11-30 14:04:12.042107+00', NULL, 'secondary', DEFAULT, false, true, 'marty.wilson@enchantment.example', '5305550125', '31303480');
INSERT INTO public.contact VALUES (53, 17, 47, 1, 61, '2026-11-30 14:04:12.042086+00', '2026-11-30 14:04:12.042107+00', NULL, 'secondary', DEFAULT, false, true, 'marty.wilson@enchantment.example', '2095550121', '31303484');
INSERT INTO public.contact VALUES (69, NULL, NULL, 1, 83, '2026-11-30 14:04:12.042108+00', '2026-11-30 14:04:12.042108+00', NULL, 'primary', DEFAULT, true, true, 'einstein.baines@twinpines.example', '2095550101', '31303528');
INSERT INTO public.contact VALUES (70, NULL, NULL, 1, 84, '2026-11-30 14:04:12.042109+00', '2026-11-30 14:04:12.042109+00', NULL, 'primary', DEFAULT, true, true, 'clara.wilson@twinpines.example', '5305550139', '31303530');
INSERT INTO public.contact VALUES (71, NULL, NULL, 1, 85, '2026-11-30 14:04:12.04211+00', '2026-11-30 14:04:12.04211+00', NULL, 'primary', DEFAULT, true, true, 'milton.mcfly@lyon-estates.example', '5305550154', '31303532');
INSERT INTO public.contact VALUES (72, NULL, NULL, 1, 86, '2026-11-30 14:04:12.042111+00', '2026-11-30 14:04:12.042111+00', NULL, 'primary', DEFAULT, true, true, 'marlene.tannen@hillvalley.example', '5305550136', '31303534');
INSERT INTO public.contact VALUES (73, NULL, NULL, 1, 87, '2026-11-30 14:04:12.042112+00', '2026-11-30 14:04:12.042112+00', NULL, 'primary', DEFAULT, true, true, 'doc.parker@twinpines.example', '5305550177', '31303536');
INSERT INTO public.contact VALUES (74, NULL, NULL, 1, 88, '2026-11-30 14:04:12.042113+00', '2026-11-30 14:04:12.042113+00', NULL, 'primary', DEFAULT, true, true, 'doc.carruthers@enchantment.example', '5305550186', '31303538');
INSERT INTO public.contact VALUES (75, NULL, NULL, 1, 89, '2026-11-30 14:04:12.042114+00', '2026-11-30 14:04:12.042114+00', NULL, 'primary', DEFAULT, true, true, 'match.baines@hillvalley.edu', '5305550193', '31303540');
INSERT INTO public.contact VALUES (76, 33, 33, 1, 90, '2026-11-30 14:04:12.042115+00', '2026-11-30 14:04:12.042115+00', NULL, 'secondary', DEFAULT, true, false, 'otis.clayton@hillvalley.edu', '5305550152', '31303542');
INSERT INTO public.contact VALUES (77, NULL, NULL, 1, 93, '2026-11-30 14:04:12.042118+00', '2026-11-30 14:04:12.042118+00', NULL, 'primary', DEFAULT, true, true, 'gale.mcfly@enchantment.example', '2095550160', '31303548');
INSERT INTO public.contact VALUES (78, NULL, NULL, 1, 94, '2026-11-30 14:04:12.042119+00', '2026-11-30 14:04:12.042119+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550131', '31303550');
INSERT INTO public.contact VALUES (79, NULL, NULL, 1, 95, '2026-11-30 14:04:12.04212+00', '2026-11-30 14:04:12.04212+00', NULL, 'primary', DEFAULT, true, true, 'lester.strickland@enchantment.example', '2095550192', '31303552');
INSERT INTO public.contact VALUES (80, NULL, NULL, 1, 96, '2026-11-30 14:04:12.042121+00', '2026-11-30 14:04:12.042121+00', NULL, 'primary', DEFAULT, true, true, 'skinhead.parker@hillvalley.edu', '5305550146', '31303554');
INSERT INTO public.contact VALUES (81, NULL, NULL, 1, 97, '2026-11-30 14:04:12.042122+00', '2026-11-30 14:04:12.042122+00', NULL, 'primary', DEFAULT, true, true, 'match.peabody@lyon-estates.example', '2095550171', '31303556');
INSERT INTO public.contact VALUES (82, NULL, NULL, 1, 98, '2026-11-30 14:04:12.042123+00', '2026-11-30 14:04:12.042123+00', NULL, 'primary', DEFAULT, true, true, 'milton.mcfly@hillvalley.example', '2095550105', '31303558');
INSERT INTO public.contact VALUES (83, NULL, NULL, 1, 99, '2026-11-30 14:04:12.042124+00', '2026-11-30 14:04:12.042124+00', NULL, 'primary', DEFAULT, true, true, 'marlene.peabody@enchantment.example', '5305550108', '31303560');
INSERT INTO public.contact VALUES (84, 22, 22, 1, 100, '2026-11-30 14:04:12.042125+00', '2026-11-30 14:04:12.042125+00', NULL, 'secondary', DEFAULT, true, false, 'marty.carruthers@lyon-estates.example', '5305550137', '31303562');
INSERT INTO public.contact VALUES (85, 21, 21, 1, 101, '2026-11-30 14:04:12.042126+00', '2026-11-30 14:04:12.042126+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550188', '31303564');
INSERT INTO public.contact VALUES (86, NULL, NULL, 1, 103, '2026-11-30 14:04:12.042128+00', '2026-11-30 14:04:12.042128+00', NULL, 'primary', DEFAULT, true, true, 'strickland.clayton@lyon-estates.example', '5305550107', '31303568');
INSERT INTO public.contact VALUES (87, NULL, NULL, 1, 104, '2026-11-30 14:04:12.042129+00', '2026-11-30 14:04:12.042129+00', NULL, 'primary', DEFAULT, true, true, 'marvin.brown@twinpines.example', '5305550118', '31303570');
INSERT INTO public.contact VALUES (88, 17, 17, 1, 105, '2026-11-30 14:04:12.04213+00', '2026-11-30 14:04:12.04213+00', NULL, 'secondary', DEFAULT, true, false, 'marlene.parker@hillvalley.example', '5305550125', '31303572');
INSERT INTO public.contact VALUES (89, NULL, NULL, 1, 106, '2026-11-30 14:04:12.042131+00', '2026-11-30 14:04:12.042131+00', NULL, 'primary', DEFAULT, true, true, 'marlene.mcfly@lyon-estates.example', '2095550190', '31303574');
INSERT INTO public.contact VALUES (90, NULL, NULL, 1, 107, '2026-11-30 14:04:12.042132+00', '2026-11-30 14:04:12.042132+00', NULL, 'primary', DEFAULT, true, true, 'emmett.parker@lyon-estates.example', '2095550104', '31303576');
INSERT INTO public.contact VALUES (91, 83, 83, 1, 108, '2026-11-30 14:04:12.042133+00', '2026-11-30 14:04:12.042133+00', NULL, 'secondary', DEFAULT, true, false, 'copernicus.brown@hillvalley.example', '5305550108', '31303578');
INSERT INTO public.contact VALUES (92, NULL, NULL, 1, 109, '2026-11-30 14:04:12.042134+00', '2026-11-30 14:04:12.042134+00', NULL, 'primary', DEFAULT, true, true, 'buford.baines@lyon-estates.example', '2095550114', '31303580');
INSERT INTO public.contact VALUES (93, 11, 11, 1, 110, '2026-11-30 14:04:12.042135+00', '2026-11-30 14:04:12.042135+00', NULL, 'secondary', DEFAULT, false, true, 'otis.peabody@twinpines.example', '5305550166', '31303582');
INSERT INTO public.contact VALUES (94, 7, 7, 1, 111, '2026-11-30 14:04:12.042136+00', '2026-11-30 14:04:12.042136+00', NULL, 'secondary', DEFAULT, true, false, 'griff.wilson@hillvalley.example', '2095550137', '31303584');
INSERT INTO public.contact VALUES (95, NULL, NULL, 1, 113, '2026-11-30 14:04:12.042138+00', '2026-11-30 14:04:12.042138+00', NULL, 'primary', DEFAULT, true, true, 'hubert.strickland@lyon-estates.example', '2095550153', '31303588');





















INSERT INTO public.import_run OVERRIDING SYSTEM VALUE VALUES (1, 'finished', '[{"path": "samples/contacts.csv", "size": 4842, "sha256": "dccc59e633bc2bed071163750aa2aeb0a4727049dffa4407d059fb92e2aa339b", "first_line": 0}]', 'a3d001bd1b7b6ac2b026519e8ab88dbfb817ef449d36a70045de9c78b1681f33', -6216169975113036020, '{"codes": {}, "marks": [95, 6], "counts": {"read": 112, "linked": 30, "merged": 6, "blocked": 0, "created": 65, "partial": 0, "rejected": 0, "unchanged": 11}, "rejects": {}, "retries": 0, "seconds": 0.03917275900312234, "version": 3, "outcomes": null, "segments": [[1, 1796047452042026], [114, 1796047452080228]], "milestones": [[112, "d4f2128f0f4119f3239f094e8a4471d5c088d4ca15233c187c6547acfae65479"]], "first_marks": [0, 0], "input_codes": {}, "local_phones": 110}', '{"read": 112, "linked": 30, "merged": 6, "blocked": 0, "created": 65, "partial": 0, "rejected": 0, "unchanged": 11}', 0.03917275900312234, '2026-11-30 14:04:12.043972+00', '2026-11-30 14:04:12.08366+00', '{"key": null, "sheet": null, "escape": null, "header": true, "region": null, "strict": false, "mapping": [], "encoding": null, "delimiter": null, "null_words": [], "skip_lines": null, "input_format": null, "region_column": null}', NULL, '7713890538004419793-1-945725-945738 31303365:31303365:', '7713890538004419793-1-945725-945738 31303591:31303591:');



INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (1, 3, 4, 1, 6, '2026-11-30 14:04:12.042031+00', 'george@hillvalley.edu', '717171', false, '31303374');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (2, 10, 14, 1, 36, '2026-11-30 14:04:12.042061+00', 'clara.wilson@enchantment.example', '2095550186', false, '31303434');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (3, 22, 26, 1, 47, '2026-11-30 14:04:12.042072+00', 'copernicus.tannen@enchantment.example', '2095550142', false, '31303456');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (4, 11, 13, 1, 53, '2026-11-30 14:04:12.042078+00', 'otis.peabody@twinpines.example', '2095550136', false, '31303468');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (5, 22, 48, 1, 71, '2026-11-30 14:04:12.042096+00', 'needles.tannen@lyon-estates.example', '5305550145', false, '31303504');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (6, 17, 47, 1, 82, '2026-11-30 14:04:12.042107+00', 'lou.parker@hillvalley.edu', '2095550121', false, '31303526');



INSERT INTO public.link_policy VALUES (true, NULL, NULL);



INSERT INTO public.normalization_profile VALUES (true, 2, NULL);


















SELECT pg_catalog.setval('public.block_pattern_id_seq', 1, false);



SELECT pg_catalog.setval('public.contact_id_seq', 95, true);



SELECT pg_catalog.setval('public.contact_move_id_seq', 1, false);



SELECT pg_catalog.setval('public.former_contact_id_seq', 1, false);



SELECT pg_catalog.setval('public.former_evidence_id_seq', 1, false);



SELECT pg_catalog.setval('public.import_run_id_seq', 1, true);



SELECT pg_catalog.setval('public.link_evidence_id_seq', 6, true);



SELECT pg_catalog.setval('public.placeholder_id', 1, false);



SELECT pg_catalog.setval('public.set_aside_contact_id_seq', 1, false);



SELECT pg_catalog.setval('public.steering_command_id_seq', 1, false);



ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);



ALTER TABLE ONLY public.block_pattern
    ADD CONSTRAINT block_pattern_pattern_key UNIQUE (pattern);



ALTER TABLE ONLY public.block_pattern
    ADD CONSTRAINT block_pattern_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.blocked_value
    ADD CONSTRAINT blocked_value_pkey PRIMARY KEY (value);



ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_id_link_precedence_key UNIQUE (id, link_precedence);



ALTER TABLE ONLY public.contact_move
    ADD CONSTRAINT contact_move_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.forget_key
    ADD CONSTRAINT forget_key_pkey PRIMARY KEY (only_row);



ALTER TABLE ONLY public.forgotten_value
    ADD CONSTRAINT forgotten_value_pkey PRIMARY KEY (hash);



ALTER TABLE ONLY public.former_contact
    ADD CONSTRAINT former_contact_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.former_evidence
    ADD CONSTRAINT former_evidence_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.hub_exemption
    ADD CONSTRAINT hub_exemption_pkey PRIMARY KEY (value);



ALTER TABLE ONLY public.import_run
    ADD CONSTRAINT import_run_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.link_evidence
    ADD CONSTRAINT link_evidence_pair_key UNIQUE (value, other_value);



ALTER TABLE ONLY public.link_evidence
    ADD CONSTRAINT link_evidence_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.link_policy
    ADD CONSTRAINT link_policy_pkey PRIMARY KEY (only_row);



ALTER TABLE ONLY public.normalization_profile
    ADD CONSTRAINT normalization_profile_pkey PRIMARY KEY (only_row);



ALTER TABLE ONLY public.partner_count
    ADD CONSTRAINT partner_count_pkey PRIMARY KEY (value);



ALTER TABLE ONLY public.restatement
    ADD CONSTRAINT restatement_pkey PRIMARY KEY (value, other_value);



ALTER TABLE ONLY public.set_aside_contact
    ADD CONSTRAINT set_aside_contact_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.steering_command
    ADD CONSTRAINT steering_command_pkey PRIMARY KEY (id);



ALTER TABLE ONLY public.unlinked_pair
    ADD CONSTRAINT unlinked_pair_pkey PRIMARY KEY (value, other_value);



CREATE UNIQUE INDEX contact_email_anchor ON public.contact USING btree (email) WHERE anchors_email;



CREATE INDEX contact_linked_id ON public.contact USING btree (linked_id) WHERE (linked_id IS NOT NULL);



CREATE INDEX contact_move_command_id ON public.contact_move USING btree (command_id);



CREATE INDEX contact_move_contact_id ON public.contact_move USING btree (contact_id);



CREATE UNIQUE INDEX contact_phone_anchor ON public.contact USING btree (phone_number) WHERE anchors_phone;



CREATE INDEX former_contact_contact_id ON public.former_contact USING btree (contact_id, id);



CREATE INDEX former_evidence_evidence_id ON public.former_evidence USING btree (evidence_id);



CREATE INDEX former_evidence_merged_id ON public.former_evidence USING btree (merged_id) WHERE (merged_id IS NOT NULL);



CREATE INDEX former_evidence_value ON public.former_evidence USING btree (value);



CREATE INDEX link_evidence_held ON public.link_evidence USING btree (other_value) WHERE is_held;



CREATE INDEX link_evidence_merged_id ON public.link_evidence USING btree (merged_id) WHERE (merged_id IS NOT NULL);



CREATE INDEX set_aside_contact_email ON public.set_aside_contact USING btree (email) WHERE (email IS NOT NULL);



CREATE UNIQUE INDEX set_aside_contact_pair_key ON public.set_aside_contact USING btree (email, phone_number) WHERE ((email IS NOT NULL) AND (phone_number IS NOT NULL));



CREATE INDEX set_aside_contact_phone ON public.set_aside_contact USING btree (phone_number) WHERE (phone_number IS NOT NULL);



CREATE INDEX unlinked_pair_other_value ON public.unlinked_pair USING btree (other_value);



CREATE TRIGGER contact_identifiers_deleted AFTER DELETE ON public.contact REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.guard_identifiers_deleted();



CREATE TRIGGER contact_identifiers_inserted AFTER INSERT ON public.contact FOR EACH ROW WHEN ((NOT (new.anchors_email AND new.anchors_phone))) EXECUTE FUNCTION public.guard_identifiers_inserted();



CREATE TRIGGER contact_identifiers_updated AFTER UPDATE ON public.contact REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.guard_identifiers_updated();



ALTER TABLE ONLY public.blocked_value
    ADD CONSTRAINT blocked_value_pattern_id_fkey FOREIGN KEY (pattern_id) REFERENCES public.block_pattern(id);



ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_links_to_a_primary FOREIGN KEY (linked_id, linked_precedence) REFERENCES public.contact(id, link_precedence);




