
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
    IF EXISTS (SELECT FROM contact) THEN
        IF stored.version <= wanted_version AND stored.region IS NOT DISTINCT FROM wanted_region THEN
            RETURN;
        END IF;
        RAISE EXCEPTION 'the database holds values of another normalisation profile' USING ERRCODE = 'ID001';
    END IF;
    UPDATE normalization_profile SET version = wanted_version, region = wanted_region;
END $$;

CREATE FUNCTION public.guard_identifiers_deleted() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    PERFORM FROM contact WHERE id IN (SELECT coalesce(linked_id, id) FROM old_rows) ORDER BY id FOR UPDATE;
    PERFORM refuse_two_identities()
    FROM (SELECT DISTINCT coalesce(linked_id, id) AS root FROM old_rows) AS old_identity
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
            AND coalesce(linked_id, id) = coalesce(NEW.linked_id, NEW.id);
        IF NOT FOUND THEN
            PERFORM refuse_two_identities();
        END IF;
    END IF;
    IF NEW.phone_number IS NOT NULL AND NOT NEW.anchors_phone THEN
        PERFORM FROM contact WHERE phone_number = NEW.phone_number AND anchors_phone
            AND coalesce(linked_id, id) = coalesce(NEW.linked_id, NEW.id);
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
BEGIN
    PERFORM FROM contact WHERE id IN (SELECT coalesce(linked_id, id) FROM old_rows) ORDER BY id FOR UPDATE;
    PERFORM refuse_two_identities()
    FROM (
        SELECT id, linked_id, email, phone_number, anchors_email, anchors_phone FROM new_rows
        UNION ALL
        SELECT c.id, c.linked_id, c.email, c.phone_number, c.anchors_email, c.anchors_phone
        FROM (SELECT DISTINCT coalesce(linked_id, id) AS root FROM old_rows) AS old_identity
        JOIN contact c ON c.linked_id = old_identity.root OR c.id = old_identity.root
    ) AS touched
    WHERE (email IS NOT NULL AND NOT anchors_email AND NOT EXISTS (
               SELECT FROM contact a WHERE a.email = touched.email AND a.anchors_email
                   AND coalesce(a.linked_id, a.id) = coalesce(touched.linked_id, touched.id)))
       OR (phone_number IS NOT NULL AND NOT anchors_phone AND NOT EXISTS (
               SELECT FROM contact a WHERE a.phone_number = touched.phone_number AND a.anchors_phone
                   AND coalesce(a.linked_id, a.id) = coalesce(touched.linked_id, touched.id)));
    RETURN NULL;
END $$;

CREATE FUNCTION public.identify(emails text[], phones text[], at_most bigint) RETURNS TABLE(id bigint, email text, phone_number text, linked_id bigint, outcome text, primary_id bigint, contact_id bigint, contact_ids bigint[])
    LANGUAGE plpgsql
    AS $$
DECLARE
    result reconciliation := reconcile_request(emails, phones);
BEGIN
    RETURN QUERY SELECT member.*, result.* FROM members(result.primary_id, at_most) AS member;
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

CREATE FUNCTION public.primary_at(of_contact bigint, at_run bigint, at_line bigint) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    WITH RECURSIVE chain (depth, id) AS (
        SELECT 0, coalesce(initial_linked_id, contact.id) FROM contact WHERE contact.id = of_contact
        UNION ALL
        SELECT depth + 1, primary_id FROM chain JOIN link_evidence ON merged_id = chain.id
        WHERE (run_id = at_run AND line > at_line) IS NOT TRUE
    )
    SELECT id FROM chain ORDER BY depth DESC LIMIT 1
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

CREATE PROCEDURE public.reconcile_batch(IN emails text[], IN phones text[], IN are_several boolean[], IN request_times bigint[], IN run bigint, IN run_lines bigint[], IN commit_each boolean, IN profile_version integer, IN profile_region text, INOUT outcomes text[] DEFAULT '{}'::text[], INOUT primary_ids bigint[] DEFAULT '{}'::bigint[], INOUT contact_ids bigint[] DEFAULT '{}'::bigint[], INOUT contact_lists text[] DEFAULT '{}'::text[], INOUT retries bigint DEFAULT 0)
    LANGUAGE plpgsql
    AS $$
DECLARE
    result reconciliation;
    results reconciliation[];
    first_failure timestamptz;
    -- Somebody's constraint that is checked at the COMMIT would end the whole batch there.
    has_deferred_checks boolean := EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid IN ('contact'::regclass, 'link_evidence'::regclass) AND tgdeferrable
    );
BEGIN
    FOR i IN 1 .. cardinality(request_times) LOOP
        FOR attempt IN 1 .. 50 LOOP
            BEGIN
                IF profile_version IS NOT NULL THEN
                    PERFORM claim_profile(profile_version, profile_region);
                END IF;
                IF are_several[i] THEN
                    result := reconcile_request(string_to_array(emails[i], E'\n'), string_to_array(phones[i], E'\n'),
                                                'epoch'::timestamptz + request_times[i] * '1 microsecond'::interval,
                                                run, run_lines[i]);
                ELSE
                    result := reconcile(emails[i], phones[i],
                                        'epoch'::timestamptz + request_times[i] * '1 microsecond'::interval,
                                        run, run_lines[i]);
                END IF;
                IF has_deferred_checks THEN
                    SET CONSTRAINTS ALL IMMEDIATE;
                END IF;
                EXIT;
            EXCEPTION
                WHEN deadlock_detected OR serialization_failure OR foreign_key_violation OR unique_violation
                    OR lock_not_available THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    retries := retries + 1;
                    IF attempt = 1 THEN
                        first_failure := clock_timestamp();
                    END IF;
                    EXIT WHEN clock_timestamp() > first_failure + '5 minutes'::interval;
                    PERFORM pg_sleep(random() * attempt / 1000);
                WHEN OTHERS THEN
                    IF left(SQLSTATE, 2) IN ('08', '25', '53', '57', '58', 'F0', 'XX')
                        OR SQLSTATE IN ('42P01', '42703', '42883', 'ID001') THEN
                        RAISE;
                    END IF;
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    EXIT;
            END;
        END LOOP;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        IF commit_each THEN
            COMMIT;
        END IF;
        -- One assignment: a transaction prepares each expression of PL/pgSQL anew, at about a microsecond.
        results[i] := result;
    END LOOP;
    IF results IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(outcome ORDER BY i), array_agg(primary_id ORDER BY i), array_agg(contact_id ORDER BY i),
           array_agg(array_to_string(result_contact_ids, ' ') ORDER BY i)
    INTO outcomes, primary_ids, contact_ids, contact_lists
    FROM unnest(results) WITH ORDINALITY AS r (outcome, primary_id, contact_id, result_contact_ids, i);
END $$;

CREATE FUNCTION public.reconcile_request(emails text[], phones text[], request_at timestamp with time zone DEFAULT clock_timestamp(), request_run bigint DEFAULT NULL::bigint, request_line bigint DEFAULT NULL::bigint) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
DECLARE
    result reconciliation;
    step reconciliation;
    left_value text;
    right_value text;
    two_emails boolean;
    two_phones boolean;
    strengths CONSTANT text[] := '{created,merged,linked,unchanged}';
    strongest integer;
    stored bigint[] := '{}';
BEGIN
    IF cardinality(emails) <= 1 AND cardinality(phones) <= 1 THEN
        RETURN reconcile(emails[1], phones[1], request_at, request_run, request_line);
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
    IF cardinality(stored) > 1 THEN
        result.contact_ids := stored;
    END IF;
    RETURN result;
END $$;

CREATE FUNCTION public.refuse_two_identities() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION 'an identifier would lead to two identities'
        USING ERRCODE = 'integrity_constraint_violation',
              HINT = 'a known value stays in its identity; reconcile() links and merges';
END $$;

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
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
    CONSTRAINT contact_has_an_identifier CHECK ((COALESCE(LEAST(email, phone_number), ''::text) <> ''::text)),
    CONSTRAINT contact_primary_has_no_link CHECK (((link_precedence = 'primary'::public.link_precedence) = (linked_id IS NULL)))
);

ALTER TABLE public.contact ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.contact_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
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
    CONSTRAINT import_run_status CHECK ((status = ANY (ARRAY['running'::text, 'finished'::text, 'stopped'::text, 'failed'::text])))
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
    primary_id bigint NOT NULL,
    merged_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone NOT NULL,
    value text CONSTRAINT link_evidence_email_not_null NOT NULL COLLATE pg_catalog."C",
    other_value text CONSTRAINT link_evidence_phone_number_not_null NOT NULL COLLATE pg_catalog."C",
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

CREATE TABLE public.normalization_profile (
    only_row boolean DEFAULT true NOT NULL,
    version integer NOT NULL,
    region text,
    CONSTRAINT normalization_profile_one_row CHECK (only_row)
);

INSERT INTO public.alembic_version VALUES ('0003');

INSERT INTO public.contact VALUES (1, NULL, NULL, 1, 2, '2026-11-25 14:36:40.890201+00', '2026-11-25 14:36:40.890201+00', NULL, 'primary', DEFAULT, true, true, 'lorraine@hillvalley.edu', '123456');
INSERT INTO public.contact VALUES (2, 1, 1, 1, 3, '2026-11-25 14:36:40.890202+00', '2026-11-25 14:36:40.890202+00', NULL, 'secondary', DEFAULT, true, false, 'mcfly@hillvalley.edu', '123456');
INSERT INTO public.contact VALUES (3, NULL, NULL, 1, 4, '2026-11-25 14:36:40.890203+00', '2026-11-25 14:36:40.890203+00', NULL, 'primary', DEFAULT, true, true, 'george@hillvalley.edu', '919191');
INSERT INTO public.contact VALUES (4, 3, NULL, 1, 5, '2026-11-25 14:36:40.890204+00', '2026-11-25 14:36:40.890205+00', NULL, 'secondary', DEFAULT, true, true, 'biffsucks@hillvalley.edu', '717171');
INSERT INTO public.contact VALUES (5, NULL, NULL, 1, 7, '2026-11-25 14:36:40.890206+00', '2026-11-25 14:36:40.890206+00', NULL, 'primary', DEFAULT, true, true, 'wilbur.wilson@enchantment.example', '5305550188');
INSERT INTO public.contact VALUES (6, NULL, NULL, 1, 8, '2026-11-25 14:36:40.890207+00', '2026-11-25 14:36:40.890207+00', NULL, 'primary', DEFAULT, true, true, 'jennifer.brown@twinpines.example', '2095550141');
INSERT INTO public.contact VALUES (7, NULL, NULL, 1, 9, '2026-11-25 14:36:40.890208+00', '2026-11-25 14:36:40.890208+00', NULL, 'primary', DEFAULT, true, true, 'seamus.clayton@twinpines.example', '2095550137');
INSERT INTO public.contact VALUES (8, NULL, NULL, 1, 10, '2026-11-25 14:36:40.890209+00', '2026-11-25 14:36:40.890209+00', NULL, 'primary', DEFAULT, true, true, 'sally.wilson@twinpines.example', '5305550159');
INSERT INTO public.contact VALUES (9, NULL, NULL, 1, 11, '2026-11-25 14:36:40.89021+00', '2026-11-25 14:36:40.89021+00', NULL, 'primary', DEFAULT, true, true, 'marty.mcfly@enchantment.example', '5305550158');
INSERT INTO public.contact VALUES (10, NULL, NULL, 1, 13, '2026-11-25 14:36:40.890212+00', '2026-11-25 14:36:40.890212+00', NULL, 'primary', DEFAULT, true, true, 'clara.wilson@enchantment.example', '5305550100');
INSERT INTO public.contact VALUES (11, NULL, NULL, 1, 15, '2026-11-25 14:36:40.890214+00', '2026-11-25 14:36:40.890214+00', NULL, 'primary', DEFAULT, true, true, 'otis.peabody@twinpines.example', '2095550183');
INSERT INTO public.contact VALUES (12, NULL, NULL, 1, 16, '2026-11-25 14:36:40.890215+00', '2026-11-25 14:36:40.890215+00', NULL, 'primary', DEFAULT, true, true, 'marty.tannen@hillvalley.edu', '2095550116');
INSERT INTO public.contact VALUES (17, NULL, NULL, 1, 21, '2026-11-25 14:36:40.89022+00', '2026-11-25 14:36:40.89022+00', NULL, 'primary', DEFAULT, true, true, 'lou.parker@hillvalley.edu', '2095550185');
INSERT INTO public.contact VALUES (18, 7, 7, 1, 22, '2026-11-25 14:36:40.890221+00', '2026-11-25 14:36:40.890221+00', NULL, 'secondary', DEFAULT, true, false, 'copernicus.parker@twinpines.example', '2095550137');
INSERT INTO public.contact VALUES (19, 7, 7, 1, 23, '2026-11-25 14:36:40.890222+00', '2026-11-25 14:36:40.890222+00', NULL, 'secondary', DEFAULT, false, true, 'copernicus.parker@twinpines.example', '2095550194');
INSERT INTO public.contact VALUES (20, 7, 7, 1, 24, '2026-11-25 14:36:40.890223+00', '2026-11-25 14:36:40.890223+00', NULL, 'secondary', DEFAULT, true, false, 'marvin.peabody@twinpines.example', '2095550137');
INSERT INTO public.contact VALUES (21, NULL, NULL, 1, 25, '2026-11-25 14:36:40.890224+00', '2026-11-25 14:36:40.890224+00', NULL, 'primary', DEFAULT, true, true, 'griff.brown@enchantment.example', '2095550138');
INSERT INTO public.contact VALUES (22, NULL, NULL, 1, 26, '2026-11-25 14:36:40.890225+00', '2026-11-25 14:36:40.890225+00', NULL, 'primary', DEFAULT, true, true, 'needles.tannen@lyon-estates.example', '2095550142');
INSERT INTO public.contact VALUES (23, NULL, NULL, 1, 27, '2026-11-25 14:36:40.890226+00', '2026-11-25 14:36:40.890226+00', NULL, 'primary', DEFAULT, true, true, 'clara.strickland@lyon-estates.example', '5305550103');
INSERT INTO public.contact VALUES (24, NULL, NULL, 1, 28, '2026-11-25 14:36:40.890227+00', '2026-11-25 14:36:40.890227+00', NULL, 'primary', DEFAULT, true, true, 'otis.baines@hillvalley.edu', '5305550199');
INSERT INTO public.contact VALUES (25, 21, 21, 1, 29, '2026-11-25 14:36:40.890228+00', '2026-11-25 14:36:40.890228+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550109');
INSERT INTO public.contact VALUES (27, NULL, NULL, 1, 31, '2026-11-25 14:36:40.89023+00', '2026-11-25 14:36:40.89023+00', NULL, 'primary', DEFAULT, true, false, 'griff.baines@hillvalley.example', NULL);
INSERT INTO public.contact VALUES (29, NULL, NULL, 1, 33, '2026-11-25 14:36:40.890232+00', '2026-11-25 14:36:40.890232+00', NULL, 'primary', DEFAULT, true, true, 'copernicus.clayton@enchantment.example', '2095550168');
INSERT INTO public.contact VALUES (30, 17, 17, 1, 34, '2026-11-25 14:36:40.890233+00', '2026-11-25 14:36:40.890233+00', NULL, 'secondary', DEFAULT, false, true, 'lou.parker@hillvalley.edu', '2095550175');
INSERT INTO public.contact VALUES (31, NULL, NULL, 1, 35, '2026-11-25 14:36:40.890234+00', '2026-11-25 14:36:40.890234+00', NULL, 'primary', DEFAULT, true, true, 'threedee.baines@hillvalley.example', '5305550123');
INSERT INTO public.contact VALUES (14, 10, NULL, 1, 18, '2026-11-25 14:36:40.890217+00', '2026-11-25 14:36:40.890235+00', NULL, 'secondary', DEFAULT, true, true, 'copernicus.strickland@hillvalley.example', '2095550186');
INSERT INTO public.contact VALUES (15, 10, 14, 1, 19, '2026-11-25 14:36:40.890218+00', '2026-11-25 14:36:40.890235+00', NULL, 'secondary', DEFAULT, true, false, 'stella.strickland@hillvalley.edu', '2095550186');
INSERT INTO public.contact VALUES (16, 10, 14, 1, 20, '2026-11-25 14:36:40.890219+00', '2026-11-25 14:36:40.890235+00', NULL, 'secondary', DEFAULT, true, false, 'doc.baines@hillvalley.edu', '2095550186');
INSERT INTO public.contact VALUES (28, 10, 14, 1, 32, '2026-11-25 14:36:40.890231+00', '2026-11-25 14:36:40.890235+00', NULL, 'secondary', DEFAULT, true, false, 'linda.strickland@twinpines.example', '2095550186');
INSERT INTO public.contact VALUES (32, 7, 7, 1, 37, '2026-11-25 14:36:40.890236+00', '2026-11-25 14:36:40.890236+00', NULL, 'secondary', DEFAULT, true, false, 'gale.tannen@hillvalley.edu', '2095550137');
INSERT INTO public.contact VALUES (33, NULL, NULL, 1, 38, '2026-11-25 14:36:40.890237+00', '2026-11-25 14:36:40.890237+00', NULL, 'primary', DEFAULT, true, true, 'lester.parker@hillvalley.edu', '2095550167');
INSERT INTO public.contact VALUES (34, NULL, NULL, 1, 39, '2026-11-25 14:36:40.890238+00', '2026-11-25 14:36:40.890238+00', NULL, 'primary', DEFAULT, true, true, 'milton.parker@hillvalley.example', '5305550141');
INSERT INTO public.contact VALUES (35, NULL, NULL, 1, 40, '2026-11-25 14:36:40.890239+00', '2026-11-25 14:36:40.890239+00', NULL, 'primary', DEFAULT, true, true, 'lou.mcfly@twinpines.example', '5305550114');
INSERT INTO public.contact VALUES (36, NULL, NULL, 1, 41, '2026-11-25 14:36:40.89024+00', '2026-11-25 14:36:40.89024+00', NULL, 'primary', DEFAULT, true, true, 'einstein.mcfly@hillvalley.example', '2095550135');
INSERT INTO public.contact VALUES (37, NULL, NULL, 1, 42, '2026-11-25 14:36:40.890241+00', '2026-11-25 14:36:40.890241+00', NULL, 'primary', DEFAULT, true, true, 'marty.clayton@twinpines.example', '5305550185');
INSERT INTO public.contact VALUES (38, 10, 10, 1, 43, '2026-11-25 14:36:40.890242+00', '2026-11-25 14:36:40.890242+00', NULL, 'secondary', DEFAULT, false, true, 'clara.wilson@enchantment.example', '5305550121');
INSERT INTO public.contact VALUES (39, NULL, NULL, 1, 44, '2026-11-25 14:36:40.890243+00', '2026-11-25 14:36:40.890243+00', NULL, 'primary', DEFAULT, true, true, 'lester.carruthers@lyon-estates.example', '2095550189');
INSERT INTO public.contact VALUES (40, NULL, NULL, 1, 45, '2026-11-25 14:36:40.890244+00', '2026-11-25 14:36:40.890244+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550154');
INSERT INTO public.contact VALUES (41, NULL, NULL, 1, 46, '2026-11-25 14:36:40.890245+00', '2026-11-25 14:36:40.890245+00', NULL, 'primary', DEFAULT, true, true, 'emmett.carruthers@hillvalley.example', '5305550109');
INSERT INTO public.contact VALUES (26, 22, NULL, 1, 30, '2026-11-25 14:36:40.890229+00', '2026-11-25 14:36:40.890246+00', NULL, 'secondary', DEFAULT, true, true, 'copernicus.tannen@enchantment.example', '5305550137');
INSERT INTO public.contact VALUES (42, NULL, NULL, 1, 48, '2026-11-25 14:36:40.890247+00', '2026-11-25 14:36:40.890247+00', NULL, 'primary', DEFAULT, true, true, 'doc.clayton@hillvalley.edu', '2095550107');
INSERT INTO public.contact VALUES (43, 33, 33, 1, 49, '2026-11-25 14:36:40.890248+00', '2026-11-25 14:36:40.890248+00', NULL, 'secondary', DEFAULT, true, false, 'dave.parker@hillvalley.edu', '2095550167');
INSERT INTO public.contact VALUES (44, 21, 21, 1, 50, '2026-11-25 14:36:40.890249+00', '2026-11-25 14:36:40.890249+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '5305550171');
INSERT INTO public.contact VALUES (45, 39, 39, 1, 51, '2026-11-25 14:36:40.89025+00', '2026-11-25 14:36:40.89025+00', NULL, 'secondary', DEFAULT, false, true, 'lester.carruthers@lyon-estates.example', '5305550130');
INSERT INTO public.contact VALUES (46, NULL, NULL, 1, 52, '2026-11-25 14:36:40.890251+00', '2026-11-25 14:36:40.890251+00', NULL, 'primary', DEFAULT, true, true, 'biff.clayton@twinpines.example', '2095550178');
INSERT INTO public.contact VALUES (13, 11, NULL, 1, 17, '2026-11-25 14:36:40.890216+00', '2026-11-25 14:36:40.890252+00', NULL, 'secondary', DEFAULT, true, true, 'jennifer.clayton@enchantment.example', '2095550136');
INSERT INTO public.contact VALUES (49, NULL, NULL, 1, 57, '2026-11-25 14:36:40.890256+00', '2026-11-25 14:36:40.890256+00', NULL, 'primary', DEFAULT, true, true, 'sally.wilson@hillvalley.edu', '5305550178');
INSERT INTO public.contact VALUES (50, 7, 7, 1, 58, '2026-11-25 14:36:40.890257+00', '2026-11-25 14:36:40.890257+00', NULL, 'secondary', DEFAULT, false, true, 'copernicus.parker@twinpines.example', '5305550151');
INSERT INTO public.contact VALUES (52, NULL, NULL, 1, 60, '2026-11-25 14:36:40.890259+00', '2026-11-25 14:36:40.890259+00', NULL, 'primary', DEFAULT, false, true, NULL, '5305550106');
INSERT INTO public.contact VALUES (54, 42, 42, 1, 62, '2026-11-25 14:36:40.890261+00', '2026-11-25 14:36:40.890261+00', NULL, 'secondary', DEFAULT, true, false, 'gale.baines@twinpines.example', '2095550107');
INSERT INTO public.contact VALUES (55, 49, 49, 1, 63, '2026-11-25 14:36:40.890262+00', '2026-11-25 14:36:40.890262+00', NULL, 'secondary', DEFAULT, false, true, 'sally.wilson@hillvalley.edu', '5305550134');
INSERT INTO public.contact VALUES (56, NULL, NULL, 1, 65, '2026-11-25 14:36:40.890264+00', '2026-11-25 14:36:40.890264+00', NULL, 'primary', DEFAULT, true, false, 'threedee.carruthers@lyon-estates.example', NULL);
INSERT INTO public.contact VALUES (57, 11, 11, 1, 66, '2026-11-25 14:36:40.890265+00', '2026-11-25 14:36:40.890265+00', NULL, 'secondary', DEFAULT, true, false, 'sally.mcfly@enchantment.example', '2095550136');
INSERT INTO public.contact VALUES (58, NULL, NULL, 1, 67, '2026-11-25 14:36:40.890266+00', '2026-11-25 14:36:40.890266+00', NULL, 'primary', DEFAULT, true, true, 'biff.clayton@enchantment.example', '5305550189');
INSERT INTO public.contact VALUES (59, 33, 33, 1, 68, '2026-11-25 14:36:40.890267+00', '2026-11-25 14:36:40.890267+00', NULL, 'secondary', DEFAULT, false, true, 'dave.parker@hillvalley.edu', '5305550152');
INSERT INTO public.contact VALUES (60, NULL, NULL, 1, 69, '2026-11-25 14:36:40.890268+00', '2026-11-25 14:36:40.890268+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550130');
INSERT INTO public.contact VALUES (47, 17, NULL, 1, 54, '2026-11-25 14:36:40.890253+00', '2026-11-25 14:36:40.890281+00', NULL, 'secondary', DEFAULT, true, true, 'marty.wilson@enchantment.example', '2095550145');
INSERT INTO public.contact VALUES (48, 22, NULL, 1, 55, '2026-11-25 14:36:40.890254+00', '2026-11-25 14:36:40.89027+00', NULL, 'secondary', DEFAULT, true, true, 'buford.carruthers@hillvalley.edu', '5305550145');
INSERT INTO public.contact VALUES (61, NULL, NULL, 1, 72, '2026-11-25 14:36:40.890271+00', '2026-11-25 14:36:40.890271+00', NULL, 'primary', DEFAULT, true, true, 'goldie.baines@hillvalley.edu', '5305550122');
INSERT INTO public.contact VALUES (62, NULL, NULL, 1, 73, '2026-11-25 14:36:40.890272+00', '2026-11-25 14:36:40.890272+00', NULL, 'primary', DEFAULT, true, true, 'strickland.tannen@twinpines.example', '2095550120');
INSERT INTO public.contact VALUES (63, NULL, NULL, 1, 76, '2026-11-25 14:36:40.890275+00', '2026-11-25 14:36:40.890275+00', NULL, 'primary', DEFAULT, true, true, 'wilbur.tannen@lyon-estates.example', '5305550153');
INSERT INTO public.contact VALUES (64, 21, 21, 1, 77, '2026-11-25 14:36:40.890276+00', '2026-11-25 14:36:40.890276+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550133');
INSERT INTO public.contact VALUES (65, NULL, NULL, 1, 78, '2026-11-25 14:36:40.890277+00', '2026-11-25 14:36:40.890277+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550111');
INSERT INTO public.contact VALUES (66, 21, 21, 1, 79, '2026-11-25 14:36:40.890278+00', '2026-11-25 14:36:40.890278+00', NULL, 'secondary', DEFAULT, true, false, 'marvin.tannen@twinpines.example', '2095550138');
INSERT INTO public.contact VALUES (67, NULL, NULL, 1, 80, '2026-11-25 14:36:40.890279+00', '2026-11-25 14:36:40.890279+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550144');
INSERT INTO public.contact VALUES (68, NULL, NULL, 1, 81, '2026-11-25 14:36:40.89028+00', '2026-11-25 14:36:40.89028+00', NULL, 'primary', DEFAULT, true, true, 'marty.baines@hillvalley.example', '5305550104');
INSERT INTO public.contact VALUES (51, 17, 47, 1, 59, '2026-11-25 14:36:40.890258+00', '2026-11-25 14:36:40.890281+00', NULL, 'secondary', DEFAULT, false, true, 'marty.wilson@enchantment.example', '5305550125');
INSERT INTO public.contact VALUES (53, 17, 47, 1, 61, '2026-11-25 14:36:40.89026+00', '2026-11-25 14:36:40.890281+00', NULL, 'secondary', DEFAULT, false, true, 'marty.wilson@enchantment.example', '2095550121');
INSERT INTO public.contact VALUES (69, NULL, NULL, 1, 83, '2026-11-25 14:36:40.890282+00', '2026-11-25 14:36:40.890282+00', NULL, 'primary', DEFAULT, true, true, 'einstein.baines@twinpines.example', '2095550101');
INSERT INTO public.contact VALUES (70, NULL, NULL, 1, 84, '2026-11-25 14:36:40.890283+00', '2026-11-25 14:36:40.890283+00', NULL, 'primary', DEFAULT, true, true, 'clara.wilson@twinpines.example', '5305550139');
INSERT INTO public.contact VALUES (71, NULL, NULL, 1, 85, '2026-11-25 14:36:40.890284+00', '2026-11-25 14:36:40.890284+00', NULL, 'primary', DEFAULT, true, true, 'milton.mcfly@lyon-estates.example', '5305550154');
INSERT INTO public.contact VALUES (72, NULL, NULL, 1, 86, '2026-11-25 14:36:40.890285+00', '2026-11-25 14:36:40.890285+00', NULL, 'primary', DEFAULT, true, true, 'marlene.tannen@hillvalley.example', '5305550136');
INSERT INTO public.contact VALUES (73, NULL, NULL, 1, 87, '2026-11-25 14:36:40.890286+00', '2026-11-25 14:36:40.890286+00', NULL, 'primary', DEFAULT, true, true, 'doc.parker@twinpines.example', '5305550177');
INSERT INTO public.contact VALUES (74, NULL, NULL, 1, 88, '2026-11-25 14:36:40.890287+00', '2026-11-25 14:36:40.890287+00', NULL, 'primary', DEFAULT, true, true, 'doc.carruthers@enchantment.example', '5305550186');
INSERT INTO public.contact VALUES (75, NULL, NULL, 1, 89, '2026-11-25 14:36:40.890288+00', '2026-11-25 14:36:40.890288+00', NULL, 'primary', DEFAULT, true, true, 'match.baines@hillvalley.edu', '5305550193');
INSERT INTO public.contact VALUES (76, 33, 33, 1, 90, '2026-11-25 14:36:40.890289+00', '2026-11-25 14:36:40.890289+00', NULL, 'secondary', DEFAULT, true, false, 'otis.clayton@hillvalley.edu', '5305550152');
INSERT INTO public.contact VALUES (77, NULL, NULL, 1, 93, '2026-11-25 14:36:40.890292+00', '2026-11-25 14:36:40.890292+00', NULL, 'primary', DEFAULT, true, true, 'gale.mcfly@enchantment.example', '2095550160');
INSERT INTO public.contact VALUES (78, NULL, NULL, 1, 94, '2026-11-25 14:36:40.890293+00', '2026-11-25 14:36:40.890293+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550131');
INSERT INTO public.contact VALUES (79, NULL, NULL, 1, 95, '2026-11-25 14:36:40.890294+00', '2026-11-25 14:36:40.890294+00', NULL, 'primary', DEFAULT, true, true, 'lester.strickland@enchantment.example', '2095550192');
INSERT INTO public.contact VALUES (80, NULL, NULL, 1, 96, '2026-11-25 14:36:40.890295+00', '2026-11-25 14:36:40.890295+00', NULL, 'primary', DEFAULT, true, true, 'skinhead.parker@hillvalley.edu', '5305550146');
INSERT INTO public.contact VALUES (81, NULL, NULL, 1, 97, '2026-11-25 14:36:40.890296+00', '2026-11-25 14:36:40.890296+00', NULL, 'primary', DEFAULT, true, true, 'match.peabody@lyon-estates.example', '2095550171');
INSERT INTO public.contact VALUES (82, NULL, NULL, 1, 98, '2026-11-25 14:36:40.890297+00', '2026-11-25 14:36:40.890297+00', NULL, 'primary', DEFAULT, true, true, 'milton.mcfly@hillvalley.example', '2095550105');
INSERT INTO public.contact VALUES (83, NULL, NULL, 1, 99, '2026-11-25 14:36:40.890298+00', '2026-11-25 14:36:40.890298+00', NULL, 'primary', DEFAULT, true, true, 'marlene.peabody@enchantment.example', '5305550108');
INSERT INTO public.contact VALUES (84, 22, 22, 1, 100, '2026-11-25 14:36:40.890299+00', '2026-11-25 14:36:40.890299+00', NULL, 'secondary', DEFAULT, true, false, 'marty.carruthers@lyon-estates.example', '5305550137');
INSERT INTO public.contact VALUES (85, 21, 21, 1, 101, '2026-11-25 14:36:40.8903+00', '2026-11-25 14:36:40.8903+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550188');
INSERT INTO public.contact VALUES (86, NULL, NULL, 1, 103, '2026-11-25 14:36:40.890302+00', '2026-11-25 14:36:40.890302+00', NULL, 'primary', DEFAULT, true, true, 'strickland.clayton@lyon-estates.example', '5305550107');
INSERT INTO public.contact VALUES (87, NULL, NULL, 1, 104, '2026-11-25 14:36:40.890303+00', '2026-11-25 14:36:40.890303+00', NULL, 'primary', DEFAULT, true, true, 'marvin.brown@twinpines.example', '5305550118');
INSERT INTO public.contact VALUES (88, 17, 17, 1, 105, '2026-11-25 14:36:40.890304+00', '2026-11-25 14:36:40.890304+00', NULL, 'secondary', DEFAULT, true, false, 'marlene.parker@hillvalley.example', '5305550125');
INSERT INTO public.contact VALUES (89, NULL, NULL, 1, 106, '2026-11-25 14:36:40.890305+00', '2026-11-25 14:36:40.890305+00', NULL, 'primary', DEFAULT, true, true, 'marlene.mcfly@lyon-estates.example', '2095550190');
INSERT INTO public.contact VALUES (90, NULL, NULL, 1, 107, '2026-11-25 14:36:40.890306+00', '2026-11-25 14:36:40.890306+00', NULL, 'primary', DEFAULT, true, true, 'emmett.parker@lyon-estates.example', '2095550104');
INSERT INTO public.contact VALUES (91, 83, 83, 1, 108, '2026-11-25 14:36:40.890307+00', '2026-11-25 14:36:40.890307+00', NULL, 'secondary', DEFAULT, true, false, 'copernicus.brown@hillvalley.example', '5305550108');
INSERT INTO public.contact VALUES (92, NULL, NULL, 1, 109, '2026-11-25 14:36:40.890308+00', '2026-11-25 14:36:40.890308+00', NULL, 'primary', DEFAULT, true, true, 'buford.baines@lyon-estates.example', '2095550114');
INSERT INTO public.contact VALUES (93, 11, 11, 1, 110, '2026-11-25 14:36:40.890309+00', '2026-11-25 14:36:40.890309+00', NULL, 'secondary', DEFAULT, false, true, 'otis.peabody@twinpines.example', '5305550166');
INSERT INTO public.contact VALUES (94, 7, 7, 1, 111, '2026-11-25 14:36:40.89031+00', '2026-11-25 14:36:40.89031+00', NULL, 'secondary', DEFAULT, true, false, 'griff.wilson@hillvalley.example', '2095550137');
INSERT INTO public.contact VALUES (95, NULL, NULL, 1, 113, '2026-11-25 14:36:40.890312+00', '2026-11-25 14:36:40.890312+00', NULL, 'primary', DEFAULT, true, true, 'hubert.strickland@lyon-estates.example', '2095550153');

INSERT INTO public.import_run OVERRIDING SYSTEM VALUE VALUES (1, 'finished', '[{"path": "samples/contacts.csv", "size": 4842, "sha256": "dccc59e633bc2bed071163750aa2aeb0a4727049dffa4407d059fb92e2aa339b", "first_line": 0}]', 'a3d001bd1b7b6ac2b026519e8ab88dbfb817ef449d36a70045de9c78b1681f33', -6216169975113036020, '{"codes": {}, "marks": [95, 6], "counts": {"read": 112, "linked": 30, "merged": 6, "created": 65, "rejected": 0, "unchanged": 11}, "rejects": {}, "retries": 0, "seconds": 0.1957963139975618, "version": 2, "outcomes": null, "segments": [[1, 1795617400890200], [114, 1795617401088510]], "milestones": [[112, "1f8c365328f520fa8841bd48de46896df0b69e948628ef95fbd7412f3d49c0ca"]]}', '{"read": 112, "linked": 30, "merged": 6, "created": 65, "rejected": 0, "unchanged": 11}', 0.1957963139975618, '2026-11-25 14:36:40.902856+00', '2026-11-25 14:36:41.108564+00', '{"region": null, "mapping": {}, "encoding": "utf-8", "delimiter": null, "input_format": ["csv"]}', NULL);

INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (1, 3, 4, 1, 6, '2026-11-25 14:36:40.890205+00', 'george@hillvalley.edu', '717171');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (2, 10, 14, 1, 36, '2026-11-25 14:36:40.890235+00', 'clara.wilson@enchantment.example', '2095550186');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (3, 22, 26, 1, 47, '2026-11-25 14:36:40.890246+00', 'copernicus.tannen@enchantment.example', '2095550142');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (4, 11, 13, 1, 53, '2026-11-25 14:36:40.890252+00', 'otis.peabody@twinpines.example', '2095550136');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (5, 22, 48, 1, 71, '2026-11-25 14:36:40.89027+00', 'needles.tannen@lyon-estates.example', '5305550145');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (6, 17, 47, 1, 82, '2026-11-25 14:36:40.890281+00', 'lou.parker@hillvalley.edu', '2095550121');

INSERT INTO public.normalization_profile VALUES (true, 1, NULL);

SELECT pg_catalog.setval('public.contact_id_seq', 95, true);

SELECT pg_catalog.setval('public.import_run_id_seq', 1, true);

SELECT pg_catalog.setval('public.link_evidence_id_seq', 6, true);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_id_link_precedence_key UNIQUE (id, link_precedence);

ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.import_run
    ADD CONSTRAINT import_run_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.link_evidence
    ADD CONSTRAINT link_evidence_pair_key UNIQUE (value, other_value);

ALTER TABLE ONLY public.link_evidence
    ADD CONSTRAINT link_evidence_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.normalization_profile
    ADD CONSTRAINT normalization_profile_pkey PRIMARY KEY (only_row);

CREATE UNIQUE INDEX contact_email_anchor ON public.contact USING btree (email) WHERE anchors_email;

CREATE INDEX contact_linked_id ON public.contact USING btree (linked_id) WHERE (linked_id IS NOT NULL);

CREATE UNIQUE INDEX contact_phone_anchor ON public.contact USING btree (phone_number) WHERE anchors_phone;

CREATE UNIQUE INDEX link_evidence_merged_id ON public.link_evidence USING btree (merged_id) WHERE (merged_id IS NOT NULL);

CREATE TRIGGER contact_identifiers_deleted AFTER DELETE ON public.contact REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.guard_identifiers_deleted();

CREATE TRIGGER contact_identifiers_inserted AFTER INSERT ON public.contact FOR EACH ROW WHEN ((((new.email IS NOT NULL) AND (NOT new.anchors_email)) OR ((new.phone_number IS NOT NULL) AND (NOT new.anchors_phone)))) EXECUTE FUNCTION public.guard_identifiers_inserted();

CREATE TRIGGER contact_identifiers_updated AFTER UPDATE ON public.contact REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.guard_identifiers_updated();

ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_links_to_a_primary FOREIGN KEY (linked_id, linked_precedence) REFERENCES public.contact(id, link_precedence);

