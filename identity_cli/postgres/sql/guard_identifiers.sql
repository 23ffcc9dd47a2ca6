-- One identifier leads to one identity, whoever writes. Unique indexes check the contact that anchors a value; these
-- triggers check the contacts that carry it besides: they must be in the identity of its anchor.
--
-- Two writers: a new carrier holds its primary FOR KEY SHARE, by the foreign key, before its guard looks at the anchor.
-- Whoever changes or deletes a contact locks the primary FOR UPDATE before the guard looks for carriers. So one of them
-- waits and then sees what the other one has committed; an INSERT pays nothing for it.
--
-- A contact that shows two values links them, so no rule may keep the two from linking. Blocked values need no check: they
-- are anchored by placeholders, which are in nobody's identity.
--
-- SET search_path: a restore of data alone runs with an empty one, and an UPDATE may come from another schema.

CREATE OR REPLACE FUNCTION refuse_two_identities() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'an identifier would lead to two identities'
        USING ERRCODE = '23G01',
              HINT = 'a known value stays in its identity; reconcile() links and merges';
END $$;

-- Fires for a row that carries a value that it does not anchor.
CREATE OR REPLACE FUNCTION guard_identifiers_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

-- Fires once for each statement. Checks the changed rows, and the rows that are still in their old identities.
CREATE OR REPLACE FUNCTION guard_identifiers_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

CREATE OR REPLACE FUNCTION guard_identifiers_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
